"""The run folder and its JSON files. Every file appears whole or not at all."""

import contextlib
import dataclasses
import importlib.metadata
import json
import math
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

import isjax
from isjax.errors import FieldError
from isjax.learner.config import Config, Hyper
from isjax.types import Device

CONFIG, SUMMARY, METRICS, REPORT = "config.json", "summary.json", "metrics.parquet", "report.html"
CHECKPOINTS, ROWS_FOLDER, OUTCOMES, HOSTS = "checkpoints", "metrics", "outcomes", "hosts"
ROWS = 100
"""About how many rows a learner's table has, unless `log_every` says otherwise."""
_NUMBERS = ("learners", "seed", "log_every", "replicas", "halvings")
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "gymnax", "numpy", "orbax-checkpoint")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that decides the numbers of a run: two runs of one plan write the same table."""

    config: Config
    hyper: Hyper
    learners: int = 64
    seed: int = 0
    log_every: int = 0
    """Updates per row; 0 chooses so that there are about 100 rows."""
    replicas: int = 0
    """Learners of each setting, one after the other: fields of `hyper` `[L]` differ between settings, and
    learner i draws from stream i mod replicas. 0: all learners have one setting."""
    halvings: int = 0
    """How often, on the way, the weaker half of the settings is given up."""

    def __post_init__(self) -> None:
        for name, low in (("learners", 1), ("seed", 0), ("log_every", 0), ("replicas", 0), ("halvings", 0)):
            if getattr(self, name) < low:
                raise FieldError(name, f"at least {low}", getattr(self, name))
        if self.learners % self.per_setting:
            raise ValueError(f"replicas must divide learners, {self.learners}, but it is {self.replicas}.")
        if self.seed >= 2**32:
            raise FieldError("seed", "less than 2^32", self.seed)

    @property
    def chunk(self) -> int:
        """Updates per row, and per call of the compiled program."""
        return self.log_every or -(-self.config.updates // ROWS)

    @property
    def per_setting(self) -> int:
        """Learners of each setting."""
        return self.replicas or self.learners

    def streams(self, learners: np.ndarray) -> np.ndarray:
        """The random streams that learners draw from: those of the same place in their settings share one."""
        return learners % self.per_setting

    def hyper_of(self, learners: np.ndarray) -> Hyper:
        """The settings of some learners, an array a field."""
        every: dict[str, Any] = {
            name: np.broadcast_to(np.asarray(x, np.float32), (self.learners,))[learners]
            for name, x in vars(self.hyper).items()
        }
        return Hyper(**every)

    def as_json(self) -> dict[str, Any]:
        """The plan in types that JSON knows."""
        plan = {
            "config": dataclasses.asdict(self.config),
            "hyper": {name: _as_json(np.asarray(x, float).tolist()) for name, x in vars(self.hyper).items()},
            "learners": self.learners,
            "seed": self.seed,
            "log_every": self.chunk,
            "replicas": self.replicas,
            "halvings": self.halvings,
        }
        return json.loads(json.dumps(plan))

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> "Plan":
        """The plan that `as_json` gave.

        Raises:
          ValueError: its fields are not those of this version.
        """
        settings: dict[str, Any] = {name: tuple(x) if isinstance(x, list) else x for name, x in saved["config"].items()}
        try:
            config = Config(**settings)
            hyper = Hyper(**{name: _as_numbers(x) for name, x in saved["hyper"].items()})
        except TypeError as error:
            raise ValueError(f"{CONFIG} was written by another version of isjax: {error}.") from error
        return cls(config=config, hyper=hyper, **{name: saved[name] for name in _NUMBERS})

    def difference(self, saved: dict[str, Any]) -> tuple[str, Any, Any] | None:
        """`(field, saved value, value here)` of the first field that differs from a saved plan, if one does."""
        here, there = _flat(self.as_json()), _flat({name: saved.get(name) for name in self.as_json()})
        # A setting that is younger than the saved plan had its default there.
        defaults = json.loads(json.dumps(vars(Config()) | vars(Hyper())))
        there = {name: x for name, x in defaults.items() if name in here} | there
        for name in here | there:
            if here.get(name) != there.get(name):
                return name, there.get(name), here.get(name)
        return None


def free_folder(plan: Plan, root: Path = Path("runs")) -> Path:
    """`root/<env>-<algorithm>-<seed>`, with a number behind it if that is taken."""
    first = root / f"{plan.config.env}-{plan.config.algorithm}-{plan.seed}"
    path, number = first, 2
    while path.exists():
        path, number = Path(f"{first}-{number}"), number + 1
    return path


def holds_run(path: Path) -> bool:
    """Whether a run was started in this folder."""
    return (path / CONFIG).exists()


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes JSON; what is not a finite number becomes null."""
    with replacing(path) as file:
        file.write(json.dumps(_finite(content), indent=2, allow_nan=False).encode() + b"\n")


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON file.

    Raises:
      ValueError: it is missing or not JSON.
    """
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise ValueError(f"{path.parent} holds no run: {path.name} is missing.") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON: {error}.") from error


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file to write, which takes the place of `path` once it is complete and on disk."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(path: Path, host: int = 0) -> Iterator[None]:
    """Holds the folder for this process of a host; the system lets go of it however the process ends.

    Raises:
      ValueError: another process holds it.
    """
    try:
        import fcntl
    except ImportError:  # a system without such locks
        yield
        return
    with (path / (f".lock-{host}" if host else ".lock")).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"{path} is in use: another process trains in it.") from None
        yield


def versions() -> dict[str, str]:
    """Of Python, of this package, and of those that decide its numbers."""
    return {"python": platform.python_version(), "isjax": isjax.__version__} | {
        name: importlib.metadata.version(name) for name in _PACKAGES
    }


def device_name(devices: list[Device]) -> str:
    """What the run computes on, in words."""
    kind = devices[0].device_kind
    return f"{len(devices)} × {kind}" if kind != "cpu" else f"cpu, {len(devices)} of {os.cpu_count()} cores"


def _flat(tree: dict[str, Any]) -> dict[str, Any]:
    flat = {name: x for name, x in tree.items() if not isinstance(x, dict)}
    return flat | {name: x for inner in tree.values() if isinstance(inner, dict) for name, x in inner.items()}


def _as_json(x: Any) -> Any:
    """A number, or a list of them, as JSON can say it: infinity is a word."""
    if isinstance(x, list):
        return [_as_json(each) for each in x]
    return x if math.isfinite(x) else str(x)


def _as_numbers(x: Any) -> Any:
    return np.asarray(x, float) if isinstance(x, list) else float(x)


def _finite(x: Any) -> Any:
    if isinstance(x, dict):
        return {name: _finite(value) for name, value in x.items()}
    if isinstance(x, list | tuple):
        return [_finite(value) for value in x]
    return None if isinstance(x, float) and not math.isfinite(x) else x
