"""The pure mind of the scheduler: who runs next, and what a running job's bundles have come to.

Facts enter as frozen values (a snapshot, an outcome, the time), and decisions and orders leave as values. Nothing here reads a clock, a
database, a network or a disk, so that the simulator and the property tests run exactly what the product runs.
"""
