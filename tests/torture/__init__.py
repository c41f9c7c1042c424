"""Real faults against a database, and an oracle that knows what was acknowledged.

Run all of it with ``make torture``; `tests/test_torture.py` runs a small part that is the same each time.
"""
