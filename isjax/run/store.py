"""The run folder: where there is a free one, what is in its way, who holds it; and what the run runs on."""

import contextlib
import errno
import importlib.metadata
import itertools
import os
import platform
from collections.abc import Iterator
from pathlib import Path

import isjax
from isjax._renamed import moved
from isjax.errors import FieldError
from isjax.run.files import CHECKPOINTS, CONFIG, FILMS, HOSTS, OUTCOMES, ROWS_FOLDER, is_there, remove_leftovers, shown
from isjax.types import Device

_LONGEST_NAME = 255
"""Bytes of a file's name, on every common system."""
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP)
"""What file systems say that know no such locks."""
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "gymnax", "numpy", "orbax-checkpoint")


def claim(first: Path) -> Path:
    """Makes a folder of that name, with a number behind it if that is taken; returns its path.

    Raises:
      ValueError: none can be made there.
    """
    try:
        first.parent.mkdir(parents=True, exist_ok=True)
        for number in itertools.count(1):
            path = first if number == 1 else Path(f"{first}-{number}")
            with contextlib.suppress(FileExistsError):
                path.mkdir()
                return path
    except OSError as error:
        sentence = f"{{field}} must be {{rule}}, but {{value}} is not: {error.strerror}."
        raise FieldError("out", "a folder that can be made", first, sentence) from error
    raise AssertionError("there is always another number")


def check_folder(folder: Path) -> None:
    """Raises `ValueError` unless a folder is there that can be written to, or can be made."""
    name = shown(os.fspath(folder)).strip("'") if len(os.fspath(folder)) > 200 else folder
    place, sentence = folder, "{field} must be {rule}, but {value}."
    while not is_there(place) and place != place.parent:
        if len(os.fsencode(place.name)) > _LONGEST_NAME:
            rule = f"have names of at most {_LONGEST_NAME} bytes"
            raise FieldError("out", rule, name, "{field} must {rule}, but {value} has a longer one.")
        place = place.parent
    if not place.is_dir():
        if place == folder:
            raise FieldError("out", "a folder", f"{name} is {_what(place)}", sentence)
        raise FieldError("out", "a folder that can be made", f"{name} lies below {_what(place)}", sentence)
    if not os.access(place, os.W_OK | os.X_OK):
        raise FieldError("out", "a folder that can be written to", f"{name} is none", sentence)


def _what(path: Path) -> str:
    return "a file" if path.exists() else "a link that leads nowhere"


def tidy(folder: Path) -> None:
    """Removes what processes that were killed left half written in the folder of a run or a sweep."""
    parts = [path for name in (ROWS_FOLDER, CHECKPOINTS) for path in (folder / name).glob("*")]
    for place in (folder, folder / OUTCOMES, folder / HOSTS, folder / FILMS, *parts):
        remove_leftovers(place)


def holds_run(path: Path) -> bool:
    """Whether a run was started in this folder."""
    return is_there(path / CONFIG)


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
    name = path / (f".lock-{host}" if host else ".lock")
    with open(os.open(name, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK, 0o666), "rb", buffering=0) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"{path} is in use: another process trains in it.") from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
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


__getattr__ = moved(__name__, {"Plan": "isjax.run.plan:Plan"})  # where it was in version 0.1
