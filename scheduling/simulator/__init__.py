"""A lab in virtual time: the product's own policy, fair clocks and ledger, driven by made-up users, slides and failures.

Pure and deterministic by seed: no Django, no wall clock, no threads. `scenario` says what happens, `lab` lets it happen, `figures` measures.
"""
