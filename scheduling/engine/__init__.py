"""The engine: policy (pure), loop, store (the only writer of states), lease, ledger, inbox, pool."""
