"""The signals that ask a process to end in order: Ctrl-C, a scheduler's warning before it kills, a lost terminal."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

STOPPING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP") if hasattr(signal, name))


@contextlib.contextmanager
def on_stop(handler: Callable[[int, Any], None]) -> Iterator[None]:
    """While inside, `handler` takes these signals, but for those that are ignored, as nohup has it.

    Only the main thread can listen to signals; elsewhere nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard = [number for number in STOPPING if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in heard}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


@contextlib.contextmanager
def stopping(say: Callable[[str], None]) -> Iterator[Callable[[], bool]]:
    """While inside, signals such as Ctrl-C ask to stop; a second one raises `KeyboardInterrupt` at once.

    Yields a function that tells whether it was asked. Only the main thread can listen to signals.
    """
    asked = threading.Event()

    def ask(number: int, frame: Any) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()
        say("Stopping after this chunk. Once more: at once, back to the last checkpoint.")

    with on_stop(ask):
        yield asked.is_set
