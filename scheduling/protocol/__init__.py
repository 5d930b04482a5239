"""All that the scheduler and its workers say to each other, and nothing of what either of them does with it.

The scheduler sends parcels of bundles (`messages`), workers send outcomes back (`inbox`) and say every second that they live and what they
hold (`presence`). Plain values over Redis: this package knows neither a database nor Django, and it opens no slide.
"""
