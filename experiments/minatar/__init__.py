"""The five MinAtar games, V-trace against PPO."""
