"""Corrected returns against exact values: the collision task, and the counterexample of Baird."""
