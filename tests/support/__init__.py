"""What tests of several rooms share: waiting for a condition, a Redis of their own, a running product."""
