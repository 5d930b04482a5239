"""Benchmarks: each module here named `bench_<name>` has `measure() -> dict[str, Figure]` and measures one thing for real."""
