"""Use cases that write. One module a noun; keyword-only, typed; each is one transaction and, after commit, one poke of the inbox."""
