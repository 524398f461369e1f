"""Where `load` was in version 0.1: it is in `isjax.run.policy` now."""

from isjax._renamed import moved

__getattr__ = moved(__name__, {name: f"isjax.run.policy:{name}" for name in ("Policy", "load")})
