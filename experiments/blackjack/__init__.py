"""Ordinary and weighted importance sampling where Sutton & Barto compare them, and what finer weights gain."""
