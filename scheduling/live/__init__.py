"""What browsers are told while something changes: typed messages, sent when the transaction that made the change has been committed.

Writers of the store call it with what has changed, and the consumers of the dashboard receive it. A lost message costs freshness, never truth.
"""
