"""What runs inside a worker: the Celery task, the process that watches over it, and the carrying out of a bundle.

Parcels of bundles enter, one outcome for each bundle leaves by the protocol. No Django, no database, nothing of the scheduler: a worker sits
on any host that sees DATA_DIR and Redis.
"""
