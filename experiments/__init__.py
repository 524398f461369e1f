"""Experiments: one folder a question."""
