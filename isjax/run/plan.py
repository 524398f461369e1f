"""The plan of a run: everything that decides its numbers, and the keys that follow from it."""

import dataclasses
import functools
import json
import math
import os
import typing
import zlib
from typing import Any, Literal

import jax
import numpy as np

from isjax._renamed import present
from isjax.errors import MUST, FieldError
from isjax.learner.config import Config, Hyper
from isjax.randomness import Domain, stream
from isjax.run.files import CONFIG, Damaged, shown
from isjax.types import Key

ROWS = 100
"""About how many rows a learner's table has, unless `log_every` says otherwise."""
_NUMBERS = ("learners", "seed", "log_every", "replicas", "halvings")


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
            raise FieldError("replicas", f"divide {{learners}}, {self.learners}", self.replicas, MUST)
        if self.seed >= 2**32:
            raise FieldError("seed", "less than 2^32", self.seed)

    @property
    def name(self) -> str:
        """What its folder is called where nobody says so."""
        return f"{self.config.env}-{self.config.algorithm}-{self.seed}".replace(os.sep, "-").replace(":", "-")

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
            "hyper": {name: number_as_json(np.asarray(x, float).tolist()) for name, x in vars(self.hyper).items()},
            "learners": self.learners,
            "seed": self.seed,
            "log_every": self.chunk,
            "replicas": self.replicas,
            "halvings": self.halvings,
        }
        return json.loads(json.dumps(plan))

    @functools.cached_property
    def digest(self) -> str:
        """What tells this plan from others: it goes with everything that a run will read again.

        A plan that was read back keeps the one that it was saved with, whatever has become of its settings since.
        """
        return _digest(self.as_json())

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> "Plan":
        """The plan that `as_json` gave.

        Raises:
          Damaged: its fields are not those of this version or the one before, or hold what they cannot.
        """
        for name in ("config", "hyper"):
            if not isinstance(saved.get(name), dict):
                raise Damaged(f"{CONFIG} is damaged: {name} must be an object, but it is {shown(saved.get(name))}.")
        try:
            settings = present(saved["config"])
            _check_types(settings, typing.get_type_hints(Config))
            _check_types(saved, dict.fromkeys(_NUMBERS, int), needed=True)
            config = Config(**settings)
            hyper = Hyper(**{name: _as_numbers(name, x, saved["learners"]) for name, x in saved["hyper"].items()})
            plan = cls(config=config, hyper=hyper, **{name: saved[name] for name in _NUMBERS})
            vars(plan)["digest"] = _digest({name: saved[name] for name in ("config", "hyper", *_NUMBERS)})
            return plan
        except TypeError as error:
            raise Damaged(f"{CONFIG} was written by another version of isjax: {error}.") from error
        except Damaged:
            raise
        except ValueError as error:
            raise Damaged(f"{CONFIG} is damaged: {error}") from error

    def difference(self, saved: dict[str, Any]) -> tuple[str, Any, Any] | None:
        """`(field, saved value, value here)` of the first field that differs from a saved plan, if one does.

        The saved settings have their present names.
        """
        here, there = _flat(self.as_json()), _flat({name: saved.get(name) for name in self.as_json()})
        # A setting that is younger than the saved plan had its default there.
        defaults = json.loads(json.dumps(vars(Config()) | vars(Hyper())))
        there = {name: x for name, x in defaults.items() if name in here} | there
        for name in here | there:
            if here.get(name) != there.get(name):
                return name, there.get(name), here.get(name)
        return None


def training_key(plan: Plan) -> Key:
    """What learners' keys are folded from."""
    return stream(jax.random.key(plan.seed), Domain.TRAINING)


def evaluation_key(plan: Plan, update: int | None = None) -> Key:
    """What learners' keys are folded from in the evaluation after `update`, the last one if left out."""
    update = plan.config.updates if update is None else update
    return stream(jax.random.key(plan.seed), Domain.EVALUATION, update)


def bootstrap_key(plan: Plan) -> Key:
    """What the intervals of final returns draw from."""
    return stream(jax.random.key(plan.seed), Domain.BOOTSTRAP)


def _digest(plan: dict[str, Any]) -> str:
    return f"{zlib.crc32(json.dumps(plan, sort_keys=True).encode()):08x}"


def _flat(tree: dict[str, Any]) -> dict[str, Any]:
    flat = {name: x for name, x in tree.items() if not isinstance(x, dict)}
    return flat | {name: x for inner in tree.values() if isinstance(inner, dict) for name, x in inner.items()}


def number_as_json(x: Any) -> Any:
    """A number, or a list of them, as JSON can say it: infinity is a word."""
    if isinstance(x, list):
        return [number_as_json(each) for each in x]
    return x if math.isfinite(x) else str(x)


def _as_numbers(name: str, x: Any, learners: int) -> Any:
    """A number, or one of each learner."""
    values = x if isinstance(x, list) else [x]
    words = ("inf", "-inf", "nan")
    if (isinstance(x, list) and len(x) != learners) or not all(type(v) in (int, float) or v in words for v in values):
        raise ValueError(f"{name} must be a number, or one of each learner, but it is {shown(x)}.")
    return np.asarray([float(v) for v in x]) if isinstance(x, list) else float(x)


def _check_types(saved: dict[str, Any], kinds: dict[str, Any], *, needed: bool = False) -> None:
    """Raises `ValueError` for a field that cannot hold what is saved of it."""
    for name, kind in kinds.items():
        if name in saved and not _is_of(saved[name], kind):
            raise ValueError(f"{name} cannot be {shown(saved[name])}.")
        if needed and name not in saved:
            raise ValueError(f"{name} is missing.")


def _is_of(x: Any, kind: Any) -> bool:
    if typing.get_origin(kind) is Literal:
        return x in typing.get_args(kind)
    if typing.get_origin(kind) is tuple:
        return isinstance(x, list) and all(type(each) is typing.get_args(kind)[0] for each in x)
    if kind is float:
        return type(x) in (int, float) and math.isfinite(x)
    return type(x) is kind or kind not in (int, str, bool)
