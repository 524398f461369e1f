"""States instead of products: off-policy evaluation and policy gradients with ratios of state distributions."""
