"""Benchmarks run, and their records say what they were measured on."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
BENCHMARKS = ROOT / "benchmarks"

from tests.peers import rlax  # isort: skip  # before the benchmarks import it, since it warns

from benchmarks import accelerators, floor, harness, peers, readme, time_to_return
from benchmarks import ops as ops_benchmark

assert rlax

RECORDS = sorted((BENCHMARKS / "results").rglob("*.json"))


def run(*arguments, timeout=600):
    """What a command of benchmarks says, on as many devices as the machine has."""
    environment = {name: x for name, x in os.environ.items() if name != "XLA_FLAGS"}
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        cwd=ROOT,
        env=environment,
        timeout=timeout,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["ops", "floor"])
def test_a_quick_run_measures_and_writes_nothing(name):
    written = [BENCHMARKS / "results" / f"{name}.json", readme.MEASURED, BENCHMARKS / "README.md"]
    before = [path.read_bytes() for path in written]
    result = run(name, "--quick")
    assert result.returncode == 0, result.stderr
    assert f"== {name}" in result.stdout
    assert [path.read_bytes() for path in written] == before


def test_a_mistyped_benchmark_is_named():
    result = run("opps")
    assert result.returncode == 2
    assert "unknown: opps" in result.stderr


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: str(path.relative_to(BENCHMARKS / "results")))
def test_every_record_says_its_device_versions_and_commit(path):
    found = json.loads(path.read_text())
    for record in found if isinstance(found, list) else [found]:
        assert record["device"]
        assert record["versions"]["jax"]
        assert re.fullmatch(r"[0-9a-f]{40}\+?", record["commit"])


def test_a_record_without_a_commit_is_not_written(tmp_path):
    with pytest.raises(ValueError, match=r"x.json must say its commit"):
        harness.write(tmp_path / "x.json", {"device": "cpu", "versions": {}})


def test_rivals_take_turns_and_turn_around():
    calls = []
    rivals = {name: lambda name=name: calls.append(name) for name in "ab"}
    taken = harness.in_turn(rivals, 2, warm_up=0)
    assert "".join(calls) == "abba"
    assert {name: len(seconds) for name, seconds in taken.items()} == {"a": 2, "b": 2}


def test_the_least_work_is_arguments_and_results_once_and_the_products_of_every_pass():
    x, y = jnp.ones((8, 16)), jnp.ones((16, 4), jnp.bfloat16)
    least = harness.work(lambda x, y: x @ y.astype(x.dtype), x, y)
    assert least == (4 * 8 * 16 + 2 * 16 * 4 + 4 * 8 * 4, 2 * 8 * 16 * 4)

    def loop(x, w):
        return jax.lax.scan(lambda x, _: (jnp.tanh(x @ w), None), x, None, length=5)[0]

    w = jnp.ones((16, 16))
    assert harness.work(jax.jit(loop), x, w).operations == 5 * 2 * 8 * 16 * 16
    assert harness.work(jax.vmap(loop, (0, None)), jnp.ones((3, 8, 16)), w).operations == 3 * 5 * 2 * 8 * 16 * 16


def test_the_share_of_the_roofline_is_that_of_the_nearer_ceiling():
    ceiling = {"bytes_per_s": 100.0, "operations_per_s": 1000.0}
    assert harness.roofline(harness.Work(50, 100), 2.0, ceiling) == 0.25
    assert harness.roofline(harness.Work(50, 1000), 2.0, ceiling) == 0.5


def test_the_associative_form_pays_from_the_length_on_after_which_it_is_never_slower():
    faster = {8: 1.5, 16: 0.5, 32: 1.5, 64: 2.0}
    records = [{"T": t, "B": 4, "associative_times_faster": {"median": x}} for t, x in faster.items()]
    assert ops_benchmark.crossover(records) == {"4": 32}
    assert ops_benchmark.crossover(records[:2]) == {"4": None}


@pytest.mark.parametrize(
    ("iqm", "reached"), [([480, 470, 480, 490], False), ([480, 480], False), ([1, 480, 475, 490], True)]
)
def test_a_goal_is_reached_once_three_evaluations_in_a_row_reach_it(iqm, reached):
    curve = time_to_return.Curve(475.0)
    for score in iqm:
        curve.add(2.0, 100, [score])
    assert curve.reached == reached
    expected = (4.0, 200) if reached else (None, None)
    assert (curve.record()["seconds"], curve.record()["steps"]) == expected


class Runner:
    """Learns in so many evaluations of `seconds` each."""

    steps = 100

    def __init__(self, evaluations: int, seconds: float = 3.0) -> None:
        self.evaluations, self.seconds = evaluations, seconds

    def start(self, seed: int) -> float:
        self.done = 0
        return 1.0

    def advance(self, seed: int) -> tuple[float, np.ndarray]:
        self.done += 1
        return self.seconds, np.full(4, 500.0 if self.done >= self.evaluations else 0.0)


@pytest.mark.parametrize(("slow", "seconds", "trained"), [(3, 9.0, 15.0), (7, 21.0, 27.0), (8, None, 27.0)])
def test_who_trains_four_times_as_long_as_the_quickest_is_not_waited_for(slow, seconds, trained):
    task = time_to_return.Task(475.0, 100, 10**6, 1, {})
    found, _ = time_to_return.race(task, {"quick": Runner(2), "slow": Runner(slow)}, 0)
    assert found["quick"]["seconds"] == 6.0
    assert found["slow"]["seconds"] == seconds
    assert found["slow"]["curve"]["seconds"][-1] == trained


def test_in_a_race_who_trained_for_less_time_goes_on(capsys):
    task = time_to_return.Task(475.0, 100, 10**6, 1, {})
    time_to_return.race(task, {"quick": Runner(3), "slow": Runner(9, 9.0)}, 0)
    order = [line.split()[1] for line in capsys.readouterr().out.splitlines()]
    assert order[:8] == ["quick", "slow", "quick", "quick", "quick", "slow", "quick", "slow"]


@pytest.mark.parametrize("module", [ops_benchmark, peers, time_to_return], ids=lambda module: module.__name__)
def test_tables_of_what_was_measured_are_those_of_their_records(module):
    text = readme.MEASURED.read_text()
    result = json.loads(module.RESULTS.read_text())
    assert readme.with_table(text, module.RESULTS.stem, module.table(result)) == text


@pytest.mark.parametrize(("name", "table"), [("ops", ops_benchmark.guide_table), ("floor", floor.table)])
def test_tables_of_the_guide_are_those_of_their_records(name, table):
    text = harness.GUIDE.read_text()
    result = json.loads((harness.RESULTS / f"{name}.json").read_text())
    assert readme.with_table(text, name, table(result)) == text


@pytest.mark.parametrize("folder", accelerators.folders(), ids=lambda folder: folder.name)
def test_the_page_of_an_accelerator_is_that_of_its_records(folder):
    assert (folder / "README.md").read_text() == accelerators.page(folder)


def test_the_guide_shows_the_populations_of_accelerators():
    text = harness.GUIDE.read_text()
    assert accelerators.populations()
    assert readme.with_table(text, "accelerators", accelerators.table(accelerators.populations())) == text


def test_an_accelerator_keeps_its_records_apart_and_leaves_documents_alone(tmp_path):
    record = {"device": "8 × NVIDIA H100 80GB HBM3", "versions": {}, "commit": "unknown"}
    document = tmp_path / "README.md"
    document.write_text("<!-- x: generated by benchmarks/x.py -->\nbefore\n<!-- /x -->\n")
    harness.publish(tmp_path / "x.json", record, {document: "after\n"})
    assert not (tmp_path / "x.json").exists()
    assert json.loads((tmp_path / "nvidia-h100-80gb-hbm3" / "x.json").read_text()) == record
    assert "before" in document.read_text()
    harness.publish(tmp_path / "x.json", record | {"device": "cpu, 2 of 2 cores"}, {document: "after\n"})
    assert (tmp_path / "x.json").exists()
    assert "after" in document.read_text()


def test_what_is_said_of_an_accelerator_is_in_its_records():
    text, folder = readme.MEASURED.read_text(), BENCHMARKS / "results" / "nvidia-h100-80gb-hbm3"
    faster = json.loads((folder / "ops.json").read_text())["summary"]["vtrace_than_rlax"]["geometric_mean"]
    assert f"it is {faster:.1f} times faster in the geometric mean)" in text
    records = json.loads((folder / "population.json").read_text())["records"]
    rates = {(r["environment"], r["learners"]): r["env_steps_per_s"]["median"] for r in records}
    assert 2048 * 500_000 / rates["CartPole-v1", 2048] == pytest.approx(4.0, abs=0.5)
    assert 256 * 10_000_000 / rates["Breakout-MinAtar", 256] == pytest.approx(120.0, abs=5.0)
