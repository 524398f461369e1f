"""How the variance of off-policy policy gradients grows with the horizon."""
