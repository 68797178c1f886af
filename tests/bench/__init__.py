"""Measurements, side by side with a peer in one and the same run: `make bench`, or `python -m tests.bench [NAME ...]`.

Nothing is asserted here. A module is a measurement; its `measure()` says in its docstring from where to where it goes.
"""
