"""What a stale, rounded sampler costs a small language model, by correction."""
