"""Corrections for language models whose sampler is not the policy that learns."""
