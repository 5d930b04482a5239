"""Models: installed, probed, called, and labels and objects from what they give.

Windows of pixels and a model's files enter, labelled objects leave. torch is loaded only where a model runs, and nothing here knows a job.
"""
