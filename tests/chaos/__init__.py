"""The fault suite, `make chaos`: the real processes under load, while one after another is killed, stopped or taken away.

`plan` draws the faults from the seed; `installation` is what they hit, `load` what runs meanwhile; `watch` and `recovery` tell how
soon work went on; `evidence` and `verdict` tell whether anything was lost or done twice. Nothing here imports Django.
"""
