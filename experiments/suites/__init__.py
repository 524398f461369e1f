"""Tasks of other packages' suites, V-trace and PPO."""
