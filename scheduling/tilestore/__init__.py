"""Finished tiles on disk, the checkpoint of every job: published once, verified when they are read, packed when the job is done.

Payloads enter and leave by `tilefiles`; packs and records are its own business. What a payload means is known to the job types alone.
"""
