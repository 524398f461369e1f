"""Command lines: what is asked for, what must come of it. Real processes where the system around them matters."""

import contextlib
import io
import os
import random
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from tests.faults.counting import Outcome

ROOT = Path(__file__).parents[2]
SMALL = (
    "--env Catch-bsuite --learners 2 --steps 320 --num-envs 2 --unroll-length 4 --torso 8 --evaluation-episodes 2 "
    "--log-every 20"
)
LONGEST = 300
"""Characters of a line about bad input."""


class Case(NamedTuple):
    """A command line and what it must come to."""

    argv: str
    """Words after `isjax`, `OUT` standing for a new folder, `FILE` for a file with `content`."""
    code: int = 2
    says: str = ""
    """Somewhere in the output."""
    content: bytes = b""
    environment: dict[str, str] = {}  # noqa: RUF012
    shell: str = ""
    """A line of bash in which `$ISJAX` stands for the command and its arguments."""
    check: Callable[[list[Any], Path], bool] | None = None
    """Of the groups of a sweep, which then does not run, and the folder."""


def bad(argv: str, says: str, **rest: Any) -> Case:
    """One line on stderr, exit code 2."""
    return Case(argv, 2, says, **rest)


def file_says(content: str, check: Callable[[Any], bool], argv: str = "") -> Case:
    """A file of a sweep whose plan must be as `check` has it."""
    return Case(
        f"sweep --quiet --file FILE --out OUT {argv}", 130, "", content.encode(), check=lambda groups, _: check(groups)
    )


def first(groups: Any) -> Any:
    """The configuration of the first group."""
    return groups[0].plan.config


FILES = [
    file_says(
        'env = "Pendulum-v1"\nnormalize_observations = false', lambda g: first(g).normalize_observations is False
    ),
    file_says('env = "Pendulum-v1"\nnormalize_observations = true', lambda g: first(g).normalize_observations is True),
    file_says('env = "Pendulum-v1"\nnormalize_rewards = false', lambda g: first(g).normalize_rewards is False),
    file_says('algorithm = "ppo"\nnormalize_advantages = false', lambda g: not first(g).normalize_advantages),
    file_says("torso = []", lambda g: first(g).torso == ()),
    file_says("[vary]\ntorso = [[], [8]]", lambda g: [group.plan.config.torso for group in g] == [(), (8,)]),
    file_says("[vary]\nnormalize_rewards = [false, true]", lambda g: not first(g).normalize_rewards and len(g) == 2),
    file_says('learning_rate = "1e-3"\nlearners = 3', lambda g: g[0].plan.hyper.learning_rate == 1e-3),
    file_says("lambda = 0.5", lambda g: g[0].plan.hyper.lambda_ == 0.5),
    file_says("lambda_ = 0.25", lambda g: g[0].plan.hyper.lambda_ == 0.25),
    file_says('memory = "none"\nenv = "MemoryChain-bsuite"', lambda g: first(g).memory == "none"),
    file_says("seed = 7", lambda g: g[0].plan.seed == 8, "--seed 8"),
    file_says("env_params = []", lambda g: first(g).env_params == ()),
]
BAD_FILES = [
    bad("sweep --file FILE", says, content=content)
    for content, says in (
        (b"normalize_observation = false", "did you mean normalize_observations"),
        (b'normalize_observations = "false"', "normalize_observations must be true or false, but it is 'false'."),
        (b"normalize_observations = 0", "normalize_observations must be true or false, but it is 0."),
        (b"steps = 1e6", "steps must be a whole number, but it is 1000000.0."),
        (b"steps = true", "steps must be a whole number, but it is true."),
        (b"steps = 99999999999999999999", "64 bits"),
        (b"learning_rate = nan", "learning_rate must be a number, but it is nan."),
        (b"learning_rate = 2020-01-01", "learning_rate must be a number, but it is 2020-01-01."),
        (b"torso = [8, true]", "torso must be a whole number, but it is true."),
        (b"torso = 8", "torso must be a list of whole numbers, but it is 8."),
        (b"env = 3", "env must be a text, but it is 3."),
        (b"lambda = 0.5\nlambda_ = 0.4", "there twice"),
        (b"vary = 3", "vary must be a table"),
        (b"[vary]\nlearning_rate = 1e-3", "must be a list of values"),
        (b"[vary]\nlearning_rate = []", "must be a list of values"),
        (b"[draw]\nlearning_rate = {scale = 'log', low = 1, high = inf}", "both finite"),
        (b"[vary]\nlearning_rate=[1,2]\n[draw]\nlearning_rate={scale='log',low=1,high=2}", "both name learning_rate"),
        (b"\xff\xfe = 1", "not UTF-8"),
        (b"seed = 1\nseed = 2", "cannot be read"),
        (b"x = " + b"[" * 5000, "cannot be read"),
        (b"file = 'x'", "there is no setting 'file'"),
    )
]
BAD_FLAGS = [
    bad(argv, says)
    for argv, says in (
        ("sweep --vary learning_rate=1e-3,1e-2 --draw learning_rate=log:1e-3:1e-2", "both name learning_rate"),
        ("sweep --vary learning_rate=1e-3 --vary learning-rate=1e-2", "there twice"),
        ("sweep --vary learning_rate=1e-3,,1e-2", "--learning-rate must be a number, but it is ''."),
        ("sweep --vary learning_rate=nan", "must be a number, but it is 'nan'."),
        ("sweep --draw learning_rate=log:1e-3:inf", "both of them finite"),
        ("sweep --draw learning_rate=uniform:nan:1", "both of them finite"),
        ("sweep --draw discount=log:.1:1 --draw discount=log:.1:1", "there twice"),
        ("sweep --draws 3", "--draws must be 1 where --draw names nothing"),
        ("sweep --draws 1000000000000 --draw discount=uniform:0:1", "at most 1,000,000 settings"),
        ("sweep --halvings 1", "--halvings must be at most 0"),
        ("train --checkpoint-every nan", "--checkpoint-every must be a number, but it is 'nan'."),
        ("train --checkpoint-every -1", "--checkpoint-every must be at least 0, but it is -1.0."),
        ("train --host-timeout inf", "--host-timeout must be finite"),
        ("train --learning-rate inf", "--learning-rate must be a number that float32 can hold"),
        ("train --value-cost 1e39", "--value-cost must be a number that float32 can hold"),
        ("train --seed 99999999999999999999", "64 bits"),
        ("train --log-every 99999999999999999999", "64 bits"),
        ("train --learners 1000000000000", "--learners must be what memory can hold"),
        ("train --num-envs 100000000", "--num-envs must be what memory can hold"),
        ("train --torso 1000000000", "--torso must be what memory can hold"),
        ("train --unroll-length 1000000000000", "--unroll-length must be less than 2^31"),
        ("train --evaluation-episodes 1000000000000", "--evaluation-episodes must be less than 2^31"),
        ("train --coordinator nonsense", "--coordinator must be HOST:PORT, but it is 'nonsense'."),
        ("train --coordinator no.such.host.invalid:1234", "a host that can be found"),
        ("train --coordinator localhost:99999999", "--coordinator must be HOST:PORT"),
        ("train --processes 2", "--processes must come with --distributed or --coordinator"),
        ("train --quiet=false", "there is no place for the argument 'false'."),
        ("trian", "did you mean train"),
        ("train --out /dev/null", "--out must be a folder"),
    )
]
PROCESSES = [
    bad("train", "JAX_PLATFORMS must be a platform", environment={"JAX_PLATFORMS": "nonsense"}),
    bad("train --num-envs x", "--num-envs must be a whole number, but it is 'x'.", environment={"COLUMNS": "20"}),
    Case("train --help", 0, "usage", shell="$ISJAX | head -1"),
    Case("--help", 1, "the output cannot be written", shell="$ISJAX > /dev/full"),
    Case("train --help", 1, "the output cannot be written", shell="$ISJAX > /dev/full"),
    Case("--version", 0, shell="$ISJAX >&-"),
    Case("trian", 2, shell="$ISJAX 2>&-"),
    Case("sweep --help", 130, "Interrupted", shell="$ISJAX & MOMENT; kill -INT $!; wait $!"),
    Case("train --help", 130, "Interrupted", shell="$ISJAX & MOMENT; kill -USR1 $!; wait $!"),
    Case(f"train {SMALL} --out OUT", 0, "IQM return", environment={"JAX_DEBUG_NANS": "1"}),
    Case(
        f"train {SMALL} --out OUT --steps 3000000 --log-every 1 --checkpoint-every 0",
        130,
        "To go on",
        shell="$ISJAX & WAIT; kill -USR1 $!; wait $!",
    ),
    Case(
        f"train {SMALL} --out OUT --steps 3000000 --log-every 1 --checkpoint-every 0",
        130,
        "To go on",
        shell="$ISJAX & WAIT; kill -HUP $!; wait $!",
    ),
    Case(f"train {SMALL} --out OUT", 0, "of 2 learners", environment={"COLUMNS": "20"}),
    Case(f"train {SMALL} --out OUT", 0, "IQM return", environment={"LANG": "C", "PYTHONIOENCODING": "ascii"}),
    Case(f"train {SMALL} --out OUT", 0, "IQM return", environment={"TERM": "dumb"}, shell="unset HOME; $ISJAX"),
    Case(f"train {SMALL} --out OUT", 0, shell="$ISJAX >&- 2>&-"),
    Case(f"train {SMALL} --out OUT", 1, "the output cannot be written", shell="$ISJAX > /dev/full"),
    Case(f"train {SMALL} --out OUT", 0, "", shell="$ISJAX 2>/dev/full"),
]


def run(*, quick: bool = False, seed: int = 0) -> list[Outcome]:
    """Every case, or a few of each sort."""
    dice = random.Random(seed)
    cases = [FILES, BAD_FILES, BAD_FLAGS, PROCESSES]
    chosen = [dice.sample(each, 3 if each is not PROCESSES else 1) if quick else each for each in cases]
    return [outcome(case, dice) for each in chosen for case in each]


def outcome(case: Case, dice: random.Random) -> Outcome:
    """What a case comes to."""
    with tempfile.TemporaryDirectory() as place:
        file, out = Path(place) / "sweep.toml", Path(place) / "out"
        file.write_bytes(case.content)
        argv = [{"FILE": str(file), "OUT": str(out)}.get(word, word) for word in shlex.split(case.argv)]
        groups: list[Any] = []
        if case.shell or case.environment:
            code, text = in_a_process(case, argv, out, dice)
        else:
            code, text = in_process(argv, groups if case.check else None)
        right = case.check is None or (bool(groups) and case.check(groups, out))
        fault = fault_of(case, code, text, right)
    return Outcome(case.argv, shlex.join(["isjax", *argv]) + f" {case.shell}", code, text, fault)


def fault_of(case: Case, code: int, text: str, right: bool) -> str | None:
    """The first thing that is wrong, if anything is."""
    if "Traceback" in text or "unexpectedly" in text or "Exception ignored" in text:
        return "traceback"
    if code != case.code:
        return f"wrong exit code: {code}, not {case.code}"
    if not right:
        return "silent wrong value: the plan is not what the file says"
    if case.says not in text:
        return f"silent wrong value: nothing says {case.says!r}"
    lines = text.splitlines() if case.code in (1, 2) else []
    longest = max(map(len, lines), default=0)
    return f"long line: {longest} characters" if longest > LONGEST else None


def in_process(argv: list[str], groups: list[Any] | None) -> tuple[int, str]:
    """The code and the output; with `groups`, those of a sweep, which does not run."""
    from isjax.cli import main

    class Nothing:
        def __init__(self, settings: Any, found: Any, folder: Path, **rest: Any) -> None:
            assert groups is not None
            groups.extend(found)

        def train(self) -> dict[str, str]:
            return {"status": "interrupted"}

    text = io.StringIO()
    patch = contextlib.nullcontext() if groups is None else mock.patch("isjax.run.sweep.Sweep", Nothing)
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text), patch:
        try:
            code = main(argv)
        except BaseException as error:
            return -1, f"{text.getvalue()}Traceback: {error!r}"
    return code, text.getvalue()


def in_a_process(case: Case, argv: list[str], out: Path, dice: random.Random) -> tuple[int, str]:
    """The code and the output of a line of bash."""
    command = shlex.join([sys.executable, "-m", "isjax", *argv])
    wait = f"for i in $(seq 600); do sleep 0.1; ls {out}/checkpoints/*/[0-9]* >/dev/null 2>&1 && break; done"
    shell = (case.shell or "$ISJAX").replace("$ISJAX", command)
    shell = shell.replace("MOMENT", f"sleep 0.{dice.randint(15, 60)}").replace("WAIT", wait)
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | case.environment
    prefix = "set -m; set -o pipefail; "
    done = subprocess.run(
        ["bash", "-c", prefix + shell], env=environment, cwd=out.parent, capture_output=True, text=True, timeout=300
    )
    return done.returncode, done.stdout + done.stderr
