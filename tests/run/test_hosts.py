"""Several hosts at one run, rehearsed with processes on loopback."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from isjax.run import hosts as hosts_module
from isjax.run.hosts import Heartbeat, HostLost, Hosts

RUN = """
    --env Catch-bsuite --learners 8 --steps 3200 --num-envs 4 --unroll-length 5 --torso 8 --evaluation-episodes 2
    --log-every 20 --checkpoint-every 0
""".split()  # noqa: SIM905


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    """One device a process."""
    return os.environ | {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=1",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }


def start(environment, count: int, folder: Path, *more: str) -> list[subprocess.Popen]:
    """`count` processes that train in one folder."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    common = [sys.executable, "-m", "isjax", "train", *RUN, "--out", str(folder), *more]
    where = [["--coordinator", address, "--processes", str(count), "--process", str(i)] for i in range(count)]
    if count == 1:
        where = [[]]
    return [
        subprocess.Popen([*common, *each], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for each in where
    ]


def finish(processes: list[subprocess.Popen]) -> list[tuple[int, str]]:
    said = [process.communicate(timeout=560)[0] for process in processes]
    return [(process.returncode, text) for process, text in zip(processes, said, strict=True)]


def all_end_well(processes: list[subprocess.Popen]) -> None:
    ends = finish(processes)
    assert not any(code for code, _ in ends), "\n".join(said for _, said in ends)


@pytest.fixture(scope="module")
def alone(environment, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "alone"
    all_end_well(start(environment, 1, folder))
    return folder


def returns(folder: Path) -> list[float]:
    return json.loads((folder / "summary.json").read_text())["final_return"]["per_learner"]


@pytest.mark.timeout(600)
def test_four_hosts_share_the_learners_and_come_to_the_same_numbers(alone, environment, tmp_path):
    all_end_well(start(environment, 4, tmp_path / "run"))
    assert len(list((tmp_path / "run" / "checkpoints").iterdir())) == 4
    assert returns(tmp_path / "run") == returns(alone)
    one, other = (pq.read_table(folder / "metrics.parquet").to_pandas() for folder in (alone, tmp_path / "run"))
    assert one[["learner", "update", "episodes"]].equals(other[["learner", "update", "episodes"]])
    np.testing.assert_allclose(one["loss/total"], other["loss/total"], rtol=1e-3, atol=1e-5)


def test_one_learners_environments_may_be_spread_over_hosts(alone, environment, tmp_path):
    all_end_well(start(environment, 2, tmp_path / "run", "--devices-per-learner", "2"))
    one, other = (pq.read_table(folder / "metrics.parquet").to_pandas() for folder in (alone, tmp_path / "run"))
    assert len(one) == len(other)
    np.testing.assert_allclose(one["loss/total"][:32], other["loss/total"][:32], rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("victim", [0, 1])
def test_when_a_host_dies_the_other_stops_with_a_clear_message_and_the_folder_resumes(victim, environment, tmp_path):
    folder = tmp_path / "run"
    long = ("--steps", "40000000", "--host-timeout", "10")
    processes = start(environment, 2, folder, *long)
    while len(list((folder / "checkpoints").glob("*/[0-9]*"))) < 4:
        assert all(process.poll() is None for process in processes), finish(processes)
        time.sleep(0.1)
    processes[victim].send_signal(signal.SIGKILL)
    code, said = finish(processes)[1 - victim]
    if victim == 1:
        assert code == 1
        assert "Host 1 of 2 has given no sign of life for 10 s. Everything up to update" in said
        assert f"To go on: isjax train --resume --out {folder}" in said
    else:  # JAX itself ends the others when the first process is gone, unless an error of theirs comes first
        assert code != 0
        assert "process 0 is gone" in said or f"To go on: isjax train --resume --out {folder}" in said
    [process] = start(environment, 1, folder, *long, "--resume")
    while "Resuming at update" not in process.stdout.readline():
        assert process.poll() is None
    process.kill()
    process.communicate()


def two(folder, index, **changes) -> Heartbeat:
    return Heartbeat(folder, Hosts(index, 2, launch=changes.get("launch", 7)), timeout=changes.get("timeout", 0.3))


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(hosts_module, "BEAT", 0.02)


def test_a_host_that_is_alive_is_not_lost_and_one_that_falls_silent_is(tmp_path, quick):
    watch = two(tmp_path, 0)
    with two(tmp_path, 1).alive():
        for _ in range(30):
            assert watch.lost() is None
            time.sleep(0.02)
        shutil.copytree(tmp_path / "hosts", tmp_path / "kept")
    sign = json.loads((tmp_path / "kept" / "1.json").read_text())
    (tmp_path / "hosts" / "1.json").write_text(json.dumps(sign))
    time.sleep(0.05)
    assert watch.lost() is None
    time.sleep(0.5)
    assert watch.lost() == "Host 1 of 2 has given no sign of life for 0.3 s."


def test_a_host_that_stopped_or_failed_says_so_and_one_that_is_done_is_not_lost(tmp_path, quick):
    stopped = two(tmp_path, 1)
    with stopped.alive():
        stopped.end(finished=False)
    assert two(tmp_path, 0).lost() == "Host 1 of 2 stopped."
    failed = two(tmp_path, 1)
    with pytest.raises(RuntimeError, match="oh"), failed.alive():
        raise RuntimeError("oh")
    assert two(tmp_path, 0).lost() == "Host 1 of 2 failed."
    done = two(tmp_path, 1)
    with done.alive():
        done.end(finished=True)
    watch = two(tmp_path, 0)
    watch.lost()
    time.sleep(0.4)
    assert watch.lost() is None


def test_signs_of_another_launch_are_not_believed(tmp_path, quick):
    old = two(tmp_path, 1, launch=6)
    with old.alive():
        old.end(finished=False)
    assert two(tmp_path, 0).lost() is None


def test_waiting_ends_with_what_is_waited_for_with_a_stop_or_with_a_lost_host(tmp_path, quick):
    watch = two(tmp_path, 0)
    assert watch.wait(lambda: True, lambda: False)
    assert not watch.wait(lambda: False, lambda: True)
    with pytest.raises(HostLost, match="Host 1 of 2"):
        watch.wait(lambda: False, lambda: False)
