"""Other libraries' functions under their own names and signatures: change one import."""

from isjax.compat import rlax

__all__ = ["rlax"]
