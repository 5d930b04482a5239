"""A made-up slide of tissue with nuclei whose places are known: for the demo, the tests and the benches.

A seed and a size enter, a pyramid on disk leaves, the same bytes for the same seed.
"""
