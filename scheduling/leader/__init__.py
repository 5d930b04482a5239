"""The scheduler's process: it waits for what the inbox and the clock say, asks the engine, and has the store and the pool carry it out.

Outcomes and pokes enter by the inbox, parcels leave by the pool, and states are written by the store alone. No module of this package
writes a row by itself, and none computes on a slide.
"""
