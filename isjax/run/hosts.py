"""Several hosts at one run: who is there, who has fallen silent, and what all of them agree on.

The processes find each other through `jax.distributed`, and share the run's folder. Where no learner is spread over
hosts they never wait for each other while they train: each has groups of its own, and the folder tells who has ended.
"""

import contextlib
import dataclasses
import functools
import json
import math
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from isjax.run.files import HOSTS, write_json

BEAT = 1.0
"""Seconds between signs of life."""
RUNNING, DONE, STOPPED, FAILED = "running", "done", "stopped", "failed"


class HostLost(RuntimeError):
    """Another host stopped, failed or fell silent: there is nothing to wait for."""


@dataclasses.dataclass(frozen=True)
class Hosts:
    """Where this process stands among those of the run."""

    index: int = 0
    count: int = 1
    together: bool = False
    """Whether learners are spread over hosts, so that all of them run the same programs in step."""
    launch: int = 0
    """A number that the processes started together share, and no others."""

    @property
    def leads(self) -> bool:
        """Whether this is the host that writes what there is one of."""
        return self.index == 0

    @property
    def writes(self) -> bool:
        """Whether this host writes what its learners do."""
        return self.leads or not self.together

    def agree(self, *flags: bool) -> list[bool]:
        """For each flag, whether any of the hosts that run in step has it set."""
        if not self.together or self.count == 1:
            return list(flags)
        return [bool(x) for x in multihost_utils.process_allgather(np.asarray(flags)).any(axis=0)]


def connect(
    coordinator: str | None = None, processes: int | None = None, process: int | None = None, *, timeout: float = 60.0
) -> None:
    """Joins the other processes; to be called before anything else of JAX.

    Args:
      coordinator: HOST:PORT of the first process; found by JAX under SLURM, Open MPI, Kubernetes and on TPUs.
      processes: how many there are; found likewise.
      process: which one this is; found likewise.
      timeout: seconds of silence after which a host counts as lost; JAX itself is told to wait longer.

    Raises:
      ValueError: something is missing that JAX cannot find.
    """
    try:
        jax.distributed.initialize(
            coordinator, processes, process, heartbeat_timeout_seconds=int(max(100, 4 * timeout))
        )
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"hosts cannot find each other: {str(error).partition(chr(10))[0]}") from error


@functools.cache
def here(*, together: bool) -> Hosts:
    """Where this process stands; the first time, it waits for all the others."""
    if jax.process_count() == 1:
        return Hosts()
    launch = int(multihost_utils.broadcast_one_to_all(np.uint32(secrets.randbits(32))))
    return Hosts(jax.process_index(), jax.process_count(), together, launch)


class Heartbeat:
    """Signs of life in the run's folder, of this host and of the others.

    Args:
      folder: the run's.
      hosts: this host and how many there are.
      timeout: seconds without a sign after which another host counts as lost.
    """

    def __init__(self, folder: Path, hosts: Hosts, timeout: float) -> None:
        self._folder, self._hosts, self._timeout = folder / HOSTS, hosts, timeout
        self._heard: dict[int, tuple[Any, float]] = {}
        self._looked, self._found = -math.inf, None
        self._status = RUNNING
        self._silent = threading.Event()

    @contextlib.contextmanager
    def alive(self) -> Iterator[None]:
        """While inside, the others can see that this host lives; afterwards, how it ended."""
        if self._hosts.count == 1:
            yield
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        with _last_words(f"{self._folder.parent} can be resumed."):
            yield from self._visible()

    def _visible(self) -> Iterator[None]:
        thread = threading.Thread(target=self._beat, daemon=True)
        thread.start()
        try:
            yield
        except BaseException:
            self._status = FAILED
            raise
        finally:
            self._silent.set()
            thread.join()
            self._sign()

    def end(self, *, finished: bool) -> None:
        """How this host will have ended."""
        self._status = DONE if finished else STOPPED

    def lost(self) -> str | None:
        """One line about another host that is no longer there, if there is one."""
        now = time.monotonic()
        if self._found is None and now - self._looked >= BEAT:
            self._looked, self._found = now, self._look(now)
        return self._found

    def _look(self, now: float) -> str | None:
        for host in range(self._hosts.count):
            if host == self._hosts.index:
                continue
            sign = self._read(host)
            last, since = self._heard.get(host, (None, now))
            self._heard[host] = (sign, now if sign != last or host not in self._heard else since)
            who = f"Host {host} of {self._hosts.count}"
            if sign and sign["status"] in (STOPPED, FAILED):
                return f"{who} {sign['status']}."
            if now - self._heard[host][1] > self._timeout and not (sign and sign["status"] == DONE):
                return f"{who} has given no sign of life for {self._timeout:g} s."
        return None

    def wait(self, ready: Callable[[], bool], stop: Callable[[], bool]) -> bool:
        """Waits until the others have what `ready` asks for; `False` if it was asked to stop before.

        Raises:
          HostLost: another host is no longer there.
        """
        while not ready():
            lost = self.lost()
            if lost and not ready():
                raise HostLost(lost)
            if stop():
                return False
            time.sleep(0.2)
        return True

    def _beat(self) -> None:
        while not self._silent.wait(BEAT):
            self._sign()

    def _sign(self) -> None:
        sign = {"launch": self._hosts.launch, "beat": time.time(), "status": self._status}
        with contextlib.suppress(OSError):  # a full disk is for the run itself to report
            write_json(self._folder / f"{self._hosts.index}.json", sign)

    def _read(self, host: int) -> dict[str, Any] | None:
        """The last sign of a host, if it is of this launch."""
        try:
            sign = json.loads((self._folder / f"{host}.json").read_text())
        except (OSError, json.JSONDecodeError):
            return None
        return sign if sign["launch"] == self._hosts.launch else None


@contextlib.contextmanager
def _last_words(advice: str) -> Iterator[None]:
    """Lets another process say what happened if this one ends in the middle: JAX ends it without a clear word."""
    words = f"This process ended in the middle: it was killed, or JAX ended it since process 0 is gone. {advice}"
    code = "import sys; sys.stdin.read() == 'done' or print(sys.argv[1], file=sys.stderr)"
    command = [sys.executable, "-S", "-E", "-c", code, words]
    with subprocess.Popen(command, stdin=subprocess.PIPE, text=True, start_new_session=True) as messenger:
        try:
            yield
        finally:  # an exception has words of its own
            assert messenger.stdin is not None
            messenger.stdin.write("done")
