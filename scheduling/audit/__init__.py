"""Proves from the event log alone that a run kept the rules: `Checker` is fed events in order of id and answers with violations.

`facts` is what the log has told so far, `rules` judge the next event against it, one function a rule. Pure: no Django, no clock, no I/O,
nothing of the scheduler.
"""
