"""What a container allows: memory and processors, of control groups of either version, nested or not."""

import math
import os
from collections.abc import Iterator
from pathlib import Path

ROOT, OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
_NO_LIMIT = 2**60
"""What version 1 says without a limit is the largest number of pages, in bytes."""


def free_memory(root: Path = ROOT, own: Path = OWN) -> float | None:
    """Bytes that may still be taken; `None` without a limit.

    Args:
      root: where control groups are mounted.
      own: which of them this process is in.
    """
    free = [
        limit - used
        for folder in _groups("memory", root, own)
        for limit, used in [(_limit(folder), _used(folder))]
        if limit is not None
    ]
    return max(0.0, min(free)) if free else None


def cores(root: Path = ROOT, own: Path = OWN) -> int:
    """Processors that this process may use; of one that it may use in part, it has the whole."""
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [quota for folder in _groups("cpu", root, own) if (quota := _quota(folder)) is not None]
    return max(1, min([here, *(math.ceil(quota) for quota in quotas)]))


def _groups(controller: str, root: Path, own: Path) -> Iterator[Path]:
    """The folders that bound this process, its own group and those around it.

    A container may see its own group as the root, whatever the path that the host has for it.
    """
    for line in (_text(own) or "0::/").splitlines():
        number, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if number == "0" and not names:
            mounts = [root, root / "unified"]
        elif controller in names.split(","):
            mounts = [root / names, root / controller]
        else:
            continue
        below = Path(path.strip().lstrip("/"))
        for mount in mounts:
            yield from (mount / each for each in (below, *below.parents) if ".." not in each.parts)


def _limit(folder: Path) -> float | None:
    found = [_number(folder / name) for name in ("memory.max", "memory.high", "memory.limit_in_bytes")]
    known = [x for x in found if x is not None and x < _NO_LIMIT]
    return min(known) if known else None


def _used(folder: Path) -> float:
    """What cannot be had back: files that are only cached can."""
    used = next((x for name in ("current", "usage_in_bytes") if (x := _number(folder / f"memory.{name}"))), 0.0)
    cached = 0.0
    for line in (_text(folder / "memory.stat") or "").splitlines():
        name, _, value = line.partition(" ")
        if name in ("inactive_file", "total_inactive_file"):
            cached = max(cached, _as_number(value) or 0.0)
    return max(0.0, used - cached)


def _quota(folder: Path) -> float | None:
    """Processors' worth of time."""
    quota, _, period = (_text(folder / "cpu.max") or "").strip().partition(" ")
    if not period:
        quota = _text(folder / "cpu.cfs_quota_us") or ""
        period = _text(folder / "cpu.cfs_period_us") or ""
    share, of = _as_number(quota), _as_number(period)
    return share / of if share is not None and share > 0 and of else None


def _number(path: Path) -> float | None:
    return _as_number(_text(path) or "")


def _as_number(text: str) -> float | None:
    """A number from 0 on, which "max" is not, nor is the −1 of version 1."""
    return float(text) if text.strip().isdecimal() else None


def _text(path: Path) -> str | None:
    try:
        return path.read_text("utf-8", errors="replace")
    except OSError:
        return None
