"""What a distribution of returns looks like, and how far few seeds are from it."""
