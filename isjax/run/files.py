"""Files of a run folder: each appears whole or not at all, and is what was written when it is read again."""

import contextlib
import errno
import io
import json
import math
import os
import re
import reprlib
import stat
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

CONFIG, SUMMARY, METRICS, REPORT = "config.json", "summary.json", "metrics.parquet", "report.html"
CHECKPOINTS, ROWS_FOLDER, OUTCOMES, HOSTS, FILMS = "checkpoints", "metrics", "outcomes", "hosts", "films"
SWEEP, LEARNERS = "sweep.json", "learners.parquet"
CHECKSUMS = "checksums"
"""What sealed content says of itself: by the name of a field, the checksum of its value."""
_LEFT_OVER = re.compile(r"\..+\.(json|parquet|html|npz|gif)\.\d+")
_STREAMS = ("/dev", "/proc")


class Damaged(ValueError):
    """A file is not what was written: one line that names it, and says what to do."""


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file to write, which takes the place of `path` once it is complete and on disk.

    A link stays what it is, and the file behind it is replaced. What is no file, as a device or a FIFO, is written to.

    Raises:
      OSError: it cannot be written; what was there before is still there.
    """
    target = _behind(path)
    if target is None:
        whole = io.BytesIO()
        yield whole
        with path.open("wb") as stream:
            stream.write(whole.getbuffer())
        return
    temporary = _temporary(target)
    try:
        with _naming(path):
            file = temporary.open("wb")
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        with _naming(path):
            _keep_mode(target, temporary)
            os.replace(temporary, target)
    finally:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            temporary.unlink()


def remove_leftovers(folder: Path) -> None:
    """Removes what processes that were killed had begun to write in a folder, and could not give its name."""
    for path in sorted(folder.glob(".*")):
        if _LEFT_OVER.fullmatch(path.name) and path.is_file() and not path.is_symlink():
            path.unlink(missing_ok=True)


def is_regular(path: Path) -> bool:
    """Whether a file is there that can be read to its end, possibly behind a link: no folder, device or FIFO."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False


def is_there(path: Path) -> bool:
    """Whether anything is there, of whatever kind: a link that leads nowhere counts too."""
    try:
        path.lstat()
    except OSError:
        return False
    return True


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes JSON; what is not a finite number becomes null."""
    with replacing(path) as file:
        file.write(json.dumps(finite(content), indent=2, allow_nan=False).encode() + b"\n")


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object, and compares it with the checksums that it holds, if it does.

    Raises:
      ValueError: it is missing.
      Damaged: it is not what was written.
    """
    if not is_there(path):
        raise ValueError(f"{path.parent} holds no run: {path.name} is missing.")
    if not is_regular(path):
        raise Damaged(f"{path} must be a file, but it is {kind_of(path)}.")
    try:
        found = json.loads(path.read_text("utf-8"), parse_constant=_no_number)
    except (OSError, ValueError, RecursionError) as error:
        raise Damaged(f"{path} is not JSON: {brief(error)}.") from error
    if not isinstance(found, dict):
        raise Damaged(f"{path} must hold an object, but it holds {shown(found)}.")
    check_seal(found, path)
    return found


def sealed(content: dict[str, Any]) -> dict[str, Any]:
    """The content with a checksum of every field, those of inner objects too."""
    return content | {CHECKSUMS: {name: _checksum(x) for name, x in _fields(finite(content)).items()}}


def check_seal(content: dict[str, Any], path: Path) -> None:
    """Raises `Damaged` if sealed content is not what was sealed; content of other fields is not looked at."""
    checksums = content.get(CHECKSUMS)
    if checksums is None:
        return
    if not isinstance(checksums, dict):
        raise Damaged(f"{path}: {CHECKSUMS} must be an object, but it is {shown(checksums)}.")
    found = _fields(content)
    for name, checksum in checksums.items():
        if name not in found:
            raise Damaged(f"{path} is not what was written: {name} is missing.")
        if _checksum(found[name]) != checksum:
            raise Damaged(f"{path} is not what was written: {name} was another, but it is {shown(found[name])}.")
    inner = {name for name in found if name.partition(".")[0] in {each.partition(".")[0] for each in checksums}}
    added = sorted(inner - set(checksums))
    if added:
        raise Damaged(f"{path} is not what was written: {added[0]} was added.")


def checksum(arrays: dict[str, np.ndarray]) -> int:
    """Of the names, shapes, types and values of arrays."""
    found = 0
    for name, x in sorted(arrays.items()):
        found = zlib.crc32(f"{name} {x.dtype.str} {x.shape}".encode(), found)
        found = zlib.crc32(np.ascontiguousarray(x).reshape(-1).view(np.uint8).data, found)
    return found


def check_shape(content: dict[str, Any], shape: dict[str, Callable[[Any], bool]], path: Path) -> None:
    """Raises `Damaged` unless the content has these fields, each as its function says."""
    for name, is_right in shape.items():
        if name not in content:
            raise Damaged(f"{path} is damaged: {name} is missing.")
        if not is_right(content[name]):
            raise Damaged(f"{path} is damaged: {name} cannot be {shown(content[name])}.")


def is_count(x: Any) -> bool:
    """Whether it is a whole number from 0 on."""
    return type(x) is int and x >= 0


def is_number(x: Any) -> bool:
    """Whether it is a finite number."""
    return type(x) in (int, float) and math.isfinite(x)


def is_text(x: Any) -> bool:
    """Whether it is a string."""
    return isinstance(x, str)


def optional(is_right: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Whether it is null or else right."""
    return lambda x: x is None or is_right(x)


def list_of(is_right: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Whether it is a list of what is right."""
    return lambda x: isinstance(x, list) and all(map(is_right, x))


def object_of(**shape: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Whether it is an object that has these fields, each of them right."""
    return lambda x: isinstance(x, dict) and all(name in x and is_right(x[name]) for name, is_right in shape.items())


def kind_of(path: Path) -> str:
    """What is at a path, in words."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        return "a link that leads nowhere" if path.is_symlink() else f"not to be read: {error.strerror}"
    kinds = {"a file": stat.S_ISREG, "a folder": stat.S_ISDIR, "a FIFO": stat.S_ISFIFO, "a socket": stat.S_ISSOCK}
    return next((name for name, is_kind in kinds.items() if is_kind(mode)), "a device")


def shown(x: Any) -> str:
    """A value in a message: no more of it than a line can hold."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = short.maxlong = 60
    text = short.repr(x)
    return text if len(text) <= 80 else f"{text[:77]}..."


def brief(error: BaseException) -> str:
    """The first line of what an error says, without its full stop."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    said = re.sub(r"^Could not open Parquet input source '.*?': ", "", f"{error}".partition("\n")[0])
    return said[:80].rstrip(". ") or type(error).__name__


def finite(x: Any) -> Any:
    """The same, null in place of numbers that are not finite."""
    if isinstance(x, dict):
        return {name: finite(value) for name, value in x.items()}
    if isinstance(x, list | tuple):
        return [finite(value) for value in x]
    return None if isinstance(x, float) and not math.isfinite(x) else x


def _behind(path: Path) -> Path | None:
    """The file that a path leads to, there or not yet; `None` for what cannot be replaced."""
    place = path
    for _ in range(40):
        parent = Path(os.path.realpath(place.parent))
        if str(parent) == _STREAMS[0] or parent.is_relative_to(_STREAMS[1]):
            return None
        if not place.is_symlink():
            return place if is_regular(place) or not is_there(place) or place.is_dir() else None
        place = parent / os.readlink(place)
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))


def _temporary(target: Path) -> Path:
    """Beside the target, by a name that is no longer than names can be."""
    name = os.fsdecode(os.fsencode(target.name)[-200:])
    return target.with_name(f".{name}.{os.getpid()}")


def _keep_mode(target: Path, temporary: Path) -> None:
    """Who may read a file that is replaced stays who may."""
    with contextlib.suppress(OSError):
        temporary.chmod(stat.S_IMODE(target.stat().st_mode))


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Errors name the file that was asked for, not the temporary one."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is no number of JSON")


def _fields(content: dict[str, Any]) -> dict[str, Any]:
    """Every field but the checksums, those of inner objects behind a dot."""
    found: dict[str, Any] = {}
    for name, x in content.items():
        if name != CHECKSUMS:
            found |= {f"{name}.{inner}": y for inner, y in x.items()} if isinstance(x, dict) and x else {name: x}
    return found


def _checksum(x: Any) -> str:
    return f"{zlib.crc32(json.dumps(_plain(x), sort_keys=True).encode()):08x}"


def _plain(x: Any) -> Any:
    """Numbers alike however they are written: 5 and 5.0, 1e-05 and 0.00001."""
    if isinstance(x, dict):
        return {name: _plain(value) for name, value in x.items()}
    if isinstance(x, list | tuple):
        return [_plain(value) for value in x]
    return float(x) if type(x) is int and abs(x) < 2**53 else x
