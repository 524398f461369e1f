"""Inputs that are wrong on purpose, and what they come to."""
