"""Where `isjax.randomness` was in version 0.1."""

from isjax._renamed import moved

__getattr__ = moved(__name__, {name: f"isjax.randomness:{name}" for name in ("Domain", "generator", "stream")})
