"""Counts the faults that bad input can still find: tracebacks, wrong exit codes, silent wrong values.

`python -m tests.faults` runs every module here that has cases, or those that are named.
"""
