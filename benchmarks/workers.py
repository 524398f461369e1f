"""Peers, each in an environment of its own: what is installed there, and a process that answers questions.

A worker is a script of `peer_workers/`. It gets its settings as JSON in its first argument and answers each line of
JSON on stdin with one on stdout, starting with a line of its own once it is ready.
"""

import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent
ENVIRONMENTS = ROOT.parent / ".peers"
"""Where environments are made; git ignores it."""
PINNED = {
    "rejax": ("rejax==0.1.3", "gymnax==0.0.9", "jax==0.10.2", "jaxlib==0.10.2"),
    "sb3": (
        "stable-baselines3==2.9.2",
        "sbx-rl==0.28.0",
        "gymnasium==1.4.0",
        "torch==2.14.1",
        "jax==0.10.2",
        "jaxlib==0.10.2",
    ),
    "purejaxrl": ("gymnax==0.0.9", "jax==0.10.2", "jaxlib==0.10.2", "flax==0.12.8", "optax==0.2.8", "distrax==0.1.9"),
    "rllib": ("ray[rllib]==2.60.0", "torch==2.14.1"),
}
"""By environment: what is installed into it."""


def pins(environment: str) -> tuple[str, ...]:
    """What is installed into an environment here: on a GPU peers have the JAX that runs there, with its plugin."""
    found = {x.name for x in importlib.metadata.distributions()}
    cuda = next((name for name in ("cuda12", "cuda13") if f"jax-{name}-plugin" in found), None)
    if cuda is None:
        return PINNED[environment]
    own = f"jax[{cuda}]=={importlib.metadata.version('jax')}"
    others = (pin for pin in PINNED[environment] if not pin.startswith("jaxlib"))
    return tuple(own if pin.startswith("jax==") else pin for pin in others)


def python_of(environment: str, folder: Path = ENVIRONMENTS) -> Path:
    """The interpreter of an environment, which is made if there is none, or not the one that is pinned."""
    home = folder.absolute() / environment
    python, done = home / "bin" / "python", home / "pinned.txt"
    pinned = "\n".join(pins(environment))
    if not done.exists() or done.read_text() != pinned:
        print(f"Installing {', '.join(pins(environment))} into {home.name}.", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", *pins(environment)], check=True)
        done.write_text(pinned)
    return python


class Worker:
    """A script of `peer_workers/`, running in its environment."""

    def __init__(self, script: str, environment: str, settings: dict[str, Any], folder: Path = ENVIRONMENTS) -> None:
        command = [str(python_of(environment, folder)), str(ROOT / "peer_workers" / script), json.dumps(settings)]
        quiet = {name: x for name, x in os.environ.items() if name != "PYTHONPATH"}  # nothing of ours in there
        quiet["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # the device is shared with us
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=quiet, stderr=subprocess.DEVNULL
        )
        self.versions = self._answer()

    def ask(self, **question: Any) -> dict[str, Any]:
        """The answer to one question."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """Ends the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):  # peers print banners
                return json.loads(line)
        raise RuntimeError(f"{' '.join(self.process.args[:2])} ended before it answered.")
