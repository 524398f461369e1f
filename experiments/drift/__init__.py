"""How far the states of two policies drift apart, and what the bounds on it promise."""
