"""Whether a bundle that takes long is slow or stuck: what each process carries, what it uses, and the rule. No Django."""
