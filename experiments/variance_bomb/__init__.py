"""How fast importance weights degenerate as two policies part: in closed form, measured, and in training."""
