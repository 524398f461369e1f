"""How often one batch can be learned from, by objective."""
