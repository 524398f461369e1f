"""What a run does besides its numbers, and which devices it takes."""

import dataclasses
import math

import jax

from isjax.errors import MUST, FieldError
from isjax.types import Device


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What a run does besides its numbers: these may change when it is resumed."""

    checkpoint_every: float = 60.0
    """Seconds between checkpoints."""
    checkpoints_kept: int = 2
    """How many, the newest ones."""
    film: int = 0
    """Environment steps of a learner between films of the best one; 0 makes none."""
    devices: int = 0
    """How many devices of each host to use; 0 takes all."""
    devices_per_learner: int = 1
    """Over how many devices each learner's environments are spread; with all devices of all hosts, over hosts too."""
    learners_per_group: int = 0
    """Learners that train at once on one host; 0 takes as many as there is memory for."""
    host_timeout: float = 60.0
    """Seconds of silence after which another host counts as lost."""
    sink: str = "none"
    """Where curves go besides the folder: "none", "tensorboard" or "wandb"."""
    quiet: bool = False
    """No progress."""
    command: str = ""
    """The command line that repeats the run, for its records."""

    def __post_init__(self) -> None:
        for name, low in (("checkpoints_kept", 1), ("film", 0), ("devices_per_learner", 1), ("learners_per_group", 0)):
            if getattr(self, name) < low:
                raise FieldError(name, f"at least {low}", getattr(self, name))
        if not self.checkpoint_every >= 0:
            raise FieldError("checkpoint_every", "at least 0", self.checkpoint_every)
        if not 0 < self.host_timeout < math.inf:
            raise FieldError("host_timeout", "finite and greater than 0", self.host_timeout)


def used_devices(options: Options) -> list[Device]:
    """The devices that a run takes.

    Raises:
      FieldError: there are not as many.
    """
    devices = jax.local_devices()
    if not 0 <= options.devices <= len(devices):
        raise FieldError("devices", f"at most {len(devices)}, or 0 for all of them", options.devices)
    if options.devices_per_learner <= len(devices):
        return devices[: options.devices or len(devices)]
    if options.devices or options.devices_per_learner != len(jax.devices()):
        raise FieldError(
            "devices_per_learner",
            f"divide the {len(devices)} devices of a host, or be all {len(jax.devices())} devices of all hosts",
            options.devices_per_learner,
            MUST,
        )
    return jax.devices()
