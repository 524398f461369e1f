"""What each off-policy correction is worth when the policy that acts lags behind, with and without replay."""
