"""MinAtar games, V-trace against PPO."""
