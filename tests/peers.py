"""Other libraries to compare with. Their imports warn of what their own dependencies do."""

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    import rlax

__all__ = ["rlax"]
