import json
import struct
import subprocess
import sys
import types

import numpy as np
import pytest
from tensorboardX.proto import event_pb2
from wandb.proto import wandb_internal_pb2

from isjax.run.sinks import check_sink, make_sink, scalars

METRICS = {
    "alive": np.array([True, True, False]),
    "episode_return": np.array([1.0, 3.0, 900.0]),
    "ratio/max": np.array([1.0, 5.0, 900.0]),
    "ratio/min": np.array([0.5, 0.25, 0.0]),
    "loss/total": np.array([np.nan, np.nan, 1.0]),
    "update": np.array([1, 1, 1]),
    "ratio/histogram": np.array([[0.5, 0.5], [0.0, 1.0], [1.0, 0.0]]),
}


def test_one_number_for_each_metric_over_the_learners_alive():
    assert scalars(METRICS) == {"alive": 2.0, "episode_return": 2.0, "ratio/max": 5.0, "ratio/min": 0.25}


def test_every_metric_reduces_over_learners_as_it_does_over_updates():
    """A trust region that one learner of four left is one that was left; means and sums are means and sums."""
    x = np.array([0.001, 0.001, 0.001, 9.0], np.float32)
    alive = np.ones(4, bool)
    names = ("trust/kl_max", "own/error_max", "own/margin_min", "trust/kl", "own/error")
    found = scalars(
        {"alive": alive, "episodes": np.array([1, 2, 3, 4]), "update": np.arange(4)} | dict.fromkeys(names, x)
    )
    assert found["trust/kl_max"] == found["own/error_max"] == 9.0
    assert found["own/margin_min"] == found["trust/kl"] == found["own/error"] == np.float32(0.001)
    assert found["episodes"] == 10.0
    assert "update" not in found


@pytest.mark.parametrize(("sink", "package"), [("tensorboard", "tensorboardX"), ("wandb", "wandb")])
def test_a_sink_that_is_not_installed_says_how_to_get_it(sink, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match=rf"sink {sink} needs the package {package}: pip install 'isjax\[{sink}\]'"):
        check_sink(sink)


def test_no_sink_needs_no_package(tmp_path):
    check_sink("none")
    assert make_sink("none", tmp_path, {}, 0) is None


def test_tensorboard_gets_every_scalar_and_goes_on_where_it_was(tmp_path, monkeypatch):
    calls = []

    class Writer:
        def __init__(self, folder, purge_step):
            calls.append((folder, purge_step))

        def add_scalar(self, name, value, step):
            calls.append((name, value, step))

        def close(self):
            calls.append("closed")

    monkeypatch.setitem(sys.modules, "tensorboardX", types.SimpleNamespace(SummaryWriter=Writer))
    sink = make_sink("tensorboard", tmp_path, {}, 80)
    sink.write(160, {"alive": 2.0})
    sink.close()
    assert calls == [(str(tmp_path / "tensorboard"), 81), ("alive", 2.0, 160), "closed"]


def test_weights_and_biases_goes_on_with_the_same_run(tmp_path, monkeypatch):
    calls = []

    def init(**settings):
        calls.append(settings)
        log = lambda scalars, step: calls.append((scalars, step))  # noqa: E731
        return types.SimpleNamespace(log=log, finish=lambda: calls.append("finished"))

    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=init))
    sink = make_sink("wandb", tmp_path, {"id": "abc"}, 0)
    sink.write(160, {"alive": 2.0})
    sink.close()
    assert calls[0]["id"] == "abc"
    assert calls[0]["resume"] == "allow"
    assert calls[1:] == [({"alive": 2.0}, 160), "finished"]


def test_weights_and_biases_keeps_the_rows_offline_and_says_nothing_if_it_is_to_be_quiet(tmp_path, monkeypatch):
    """With the package itself, read back from the file that it would upload: a log of LevelDB's."""
    script = """
import sys
from pathlib import Path

from isjax.run.sinks import make_sink

sink = make_sink("wandb", Path(sys.argv[1]), {"id": "abc", "seed": 3}, 0, quiet=True)
for steps, returned in ((160, 1.5), (320, 2.5)):
    sink.write(steps, {"episode_return": returned})
sink.close()
"""
    monkeypatch.setenv("WANDB_MODE", "offline")
    command = [sys.executable, "-c", script, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout + done.stderr == ""
    (path,) = tmp_path.glob("wandb/offline-run-*-abc/run-abc.wandb")
    found, data = [], path.read_bytes()[7:]
    while data:
        length, kind = int.from_bytes(data[4:6], "little"), data[6]  # behind a checksum
        assert kind == 1, "the records are small and whole"
        record, data = wandb_internal_pb2.Record.FromString(data[7 : 7 + length]), data[7 + length :]
        row = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
        found += [(row["_step"], row["episode_return"])] if row else []
    assert found == [(160, 1.5), (320, 2.5)]


def test_tensorboard_writes_events_that_can_be_read_back(tmp_path):
    """With the package itself; a record is its length, a checksum, an event and another checksum."""
    sink = make_sink("tensorboard", tmp_path, {}, 0)
    for steps, returned in ((160, 1.5), (320, 2.5)):
        sink.write(steps, {"episode_return": returned})
    sink.close()
    (path,) = (tmp_path / "tensorboard").iterdir()
    found, data = [], path.read_bytes()
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        event, data = event_pb2.Event.FromString(data[12 : 12 + length]), data[16 + length :]
        found += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
    assert found == [(160, "episode_return", 1.5), (320, "episode_return", 2.5)]
