"""The HTTP API: thin views over services and selectors. Nothing here decides what a workflow may do."""
