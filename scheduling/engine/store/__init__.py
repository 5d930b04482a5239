"""The only writer of states. `web` holds the few moves the web process may make, the other modules are the leader's."""
