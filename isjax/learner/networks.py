"""Where the networks of version 0.1 were: `isjax.networks` has them now."""

from isjax._renamed import moved

__getattr__ = moved(__name__, {name: f"isjax.networks:{name}" for name in ("ActorCritic", "RecurrentActorCritic")})
