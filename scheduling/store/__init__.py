"""The only writer of states and of the event log: snapshots leave, decisions and requests enter.

`reconcile` is the scheduler's one transaction of a pass, `requests` holds the few moves that the web process may make, and each of the other
modules writes or reads one kind of row in sets. Nothing here decides who runs, and no file or network is touched inside a transaction.
"""
