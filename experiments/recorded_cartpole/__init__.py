"""Intervals and verdicts of off-policy estimates of a recorded policy."""
