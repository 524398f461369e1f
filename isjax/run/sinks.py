"""Where curves go besides the run folder. Each needs an optional package, imported when it is asked for."""

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from isjax.errors import FieldError
from isjax.run.scores import over_learners


class Sink(Protocol):
    """Takes a few numbers a chunk."""

    def write(self, env_steps: int, scalars: dict[str, float]) -> None:
        """`scalars` after `env_steps` steps of each learner."""
        ...

    def close(self) -> None:
        """Everything written is on its way."""
        ...


class TensorBoard:
    """Event files in `folder/tensorboard`, in a folder for each group where there are several."""

    def __init__(self, folder: Path, env_steps: int, group: str) -> None:
        package = _package("tensorboardX", extra="tensorboard")
        self._writer = package.SummaryWriter(str(folder / "tensorboard" / group), purge_step=env_steps + 1)

    def write(self, env_steps: int, scalars: dict[str, float]) -> None:
        """One event a scalar."""
        for name, x in scalars.items():
            self._writer.add_scalar(name, x, env_steps)

    def close(self) -> None:
        """Flushes the file."""
        self._writer.close()


class WeightsAndBiases:
    """A run of Weights & Biases, the same one when the run is resumed; one for each group where there are several."""

    def __init__(self, folder: Path, settings: dict[str, Any], group: str, *, quiet: bool) -> None:
        package = _package("wandb", extra="wandb")
        own = "-".join(x for x in (settings["id"], group) if x)
        where = {"project": "isjax", "id": own, "name": f"{folder.name}-{own}", "dir": str(folder), "resume": "allow"}
        self._run = package.init(**where, config=settings, settings={"silent": True} if quiet else None)

    def write(self, env_steps: int, scalars: dict[str, float]) -> None:
        """One row."""
        self._run.log(scalars, step=env_steps)

    def close(self) -> None:
        """Uploads the rest."""
        self._run.finish()


def check_sink(name: str) -> None:
    """Raises `ValueError` if the package of that sink is not installed."""
    if name != "none":
        _package({"tensorboard": "tensorboardX", "wandb": "wandb"}[name], extra=name)


def make_sink(
    name: str, folder: Path, settings: dict[str, Any], env_steps: int, group: str = "", *, quiet: bool = False
) -> Sink | None:
    """The sink of that name, going on after `env_steps`; `None` for "none". If `quiet`, it says nothing either."""
    if name == "tensorboard":
        return TensorBoard(folder, env_steps, group)
    if name == "wandb":
        return WeightsAndBiases(folder, settings, group, quiet=quiet)
    return None


def scalars(metrics: dict[str, np.ndarray]) -> dict[str, float]:
    """A chunk's metrics `[L]` as one number each: how many learners are alive, and what each metric is over them."""
    return {"alive": float(metrics["alive"].sum())} | over_learners(metrics)


def _package(name: str, *, extra: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise FieldError(
            "sink", f"pip install 'isjax[{extra}]'", extra, f"{{field}} {{value}} needs the package {name}: {{rule}}."
        ) from error
