import dataclasses
import errno
import json
import signal
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow.parquet as pq
import pytest

from isjax.learner import Config, Hyper, make_learner
from isjax.population import make_population
from isjax.run import train as train_module
from isjax.run.checkpoints import Checkpoints, pack, read_newest, unpack
from isjax.run.integrity import is_finished
from isjax.run.options import Options
from isjax.run.plan import training_key
from isjax.run.progress import ProgressReporter
from isjax.run.restore import open_run
from isjax.run.table import read_metrics
from isjax.run.train import Run
from isjax.run.training import Training
from isjax.signals import stopping


def summary_of(folder) -> dict:
    return json.loads((folder / "summary.json").read_text())


def interrupt_after(chunks: int, monkeypatch) -> None:
    """Sends SIGINT to this process while chunk number `chunks` is being recorded."""
    record, count = Training._record, []

    def counted(*args):
        record(*args)
        count.append(None)
        if len(count) == chunks:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Training, "_record", counted)


def equal_results(one, other) -> None:
    assert pq.read_table(one / "metrics.parquet").equals(pq.read_table(other / "metrics.parquet"))
    assert summary_of(one)["final_return"] == summary_of(other)["final_return"]


def checkpoints_of(folder, part: str = "0-00000") -> list[int]:
    return sorted(int(path.name) for path in (folder / "checkpoints" / part).iterdir())


def test_a_finished_run_leaves_the_folder_of_the_contract(finished, plan):
    assert {"config.json", "metrics.parquet", "checkpoints", "report.html", "summary.json"} <= {
        path.name for path in finished.iterdir()
    }
    summary = summary_of(finished)
    assert summary["status"] == "finished"
    assert summary["environment"] == "Catch-bsuite"
    assert summary["alive"] == summary["learners"] == 3
    assert summary["env_steps_per_learner"] == 400
    assert summary["env_steps_per_s"] == pytest.approx(3 * 400 / summary["train_s"])
    assert summary["wall_s"] > summary["compile_s"] + summary["train_s"]
    assert len(summary["final_return"]["per_learner"]) == 3
    assert plan.difference(json.loads((finished / "config.json").read_text())) is None
    assert is_finished(finished)


def test_the_table_has_a_row_a_learner_and_chunk(finished):
    table = pq.read_table(finished / "metrics.parquet").to_pandas()
    assert len(table) == 3 * 13
    assert table["update"].tolist()[::3] == [*range(4, 50, 4), 50]
    assert table["learner"].tolist()[:3] == [0, 1, 2]
    assert table["env_steps"].max() == 400
    assert table["episodes"].sum() == pytest.approx(3 * 400 / 9, abs=3 * 2)
    assert not (finished / "metrics").exists()


def test_a_chunk_is_recorded_while_the_next_one_runs_even_if_calling_it_takes_as_long(
    plan, options, tmp_path, monkeypatch
):
    """As on a GPU: here no chunk comes to its end before the one before it was recorded."""
    recorded, ends = threading.Semaphore(1), []
    dispatch, record = Training._dispatch, Training._record

    def slow(self):
        assert recorded.acquire(timeout=30), "the chunk before this one was not recorded meanwhile"
        ends.append(dispatch(self))
        return ends[-1]

    def noted(self, chunk):
        record(self, chunk)
        recorded.release()

    monkeypatch.setattr(Training, "_dispatch", slow)
    monkeypatch.setattr(Training, "_record", noted)
    Run(plan, tmp_path, options=options).train()
    assert [update for update, _ in ends] == [*range(4, 50, 4), 50]


def test_the_table_does_not_depend_on_how_often_is_saved(finished, plan, tmp_path):
    Run(plan, tmp_path, options=Options(quiet=True, devices=1)).train()
    equal_results(tmp_path, finished)


def test_the_newest_checkpoints_are_kept(finished, plan, options, tmp_path):
    assert checkpoints_of(finished) == [48, 50]
    picked = open_run(finished).pick(2)
    assert (picked.learner, picked.update, int(picked.state.update)) == (2, 50, 50)
    Run(plan, tmp_path, options=dataclasses.replace(options, checkpoints_kept=4)).train()
    assert checkpoints_of(tmp_path) == [40, 44, 48, 50]


def test_groups_of_learners_give_the_same_table_and_the_same_returns(finished, plan, options, tmp_path):
    Run(plan, tmp_path, options=dataclasses.replace(options, learners_per_group=1)).train()
    assert len(list((tmp_path / "checkpoints").iterdir())) == 3
    one, other = (pq.read_table(folder / "metrics.parquet").to_pandas() for folder in (tmp_path, finished))
    assert one[["learner", "update", "env_steps", "episodes"]].equals(
        other[["learner", "update", "env_steps", "episodes"]]
    )
    np.testing.assert_allclose(one["loss/total"], other["loss/total"], rtol=1e-3, atol=1e-5)
    assert summary_of(tmp_path)["final_return"] == summary_of(finished)["final_return"]


def test_a_group_is_as_large_as_memory_allows(finished, plan, options, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(train_module, "learners_that_fit", lambda programs, devices: 2)
    Run(plan, tmp_path, options=dataclasses.replace(options, quiet=False)).train()
    assert "There is memory for 2 learners at once" in capsys.readouterr().err
    assert json.loads((tmp_path / "config.json").read_text())["grouping"] == {"hosts": 1, "most": 2}
    assert [len(open_run(tmp_path).plan.streams(np.arange(3))), checkpoints_of(tmp_path, "0-00001")[-1]] == [3, 50]


def test_groups_that_are_interrupted_go_on_with_the_same_groups(plan, options, tmp_path, monkeypatch):
    grouped = dataclasses.replace(options, learners_per_group=2)
    Run(plan, tmp_path / "whole", options=grouped).train()
    with monkeypatch.context() as patch:
        interrupt_after(17, patch)  # in the second group
        assert Run(plan, tmp_path / "cut", options=grouped).train()["status"] == "interrupted"
    assert 3 * 13 > len(pq.read_table(tmp_path / "cut" / "metrics.parquet")) > 2 * 13
    Run(plan, tmp_path / "cut", resume=True, options=options).train()
    equal_results(tmp_path / "cut", tmp_path / "whole")


@pytest.mark.parametrize("chunks", [1, 5, 11])
def test_a_run_that_is_interrupted_and_resumed_equals_one_that_was_not(
    chunks, finished, plan, options, tmp_path, monkeypatch
):
    run = Run(plan, tmp_path, options=options)
    interrupt_after(chunks, monkeypatch)
    summary = run.train()
    assert summary["status"] == summary_of(tmp_path)["status"] == "interrupted"
    assert summary["final_return"]["iqm"] is None
    assert summary["updates"] == pq.read_table(tmp_path / "metrics.parquet")["update"].to_pylist()[-1] < 50
    monkeypatch.undo()
    resumed = Run(plan, tmp_path, resume=True, options=options).train()
    assert resumed["status"] == "finished"
    assert resumed["compile_s"] > summary["compile_s"] > 0
    assert resumed["train_s"] > summary["train_s"] / 2 > 0  # the last save's own seconds are in the summary alone
    assert resumed["wall_s"] > resumed["compile_s"] + resumed["train_s"]
    equal_results(tmp_path, finished)


def test_a_crash_between_checkpoints_loses_no_saved_row_and_resumes_to_the_same_table(
    finished, plan, options, tmp_path, monkeypatch
):
    run = Run(plan, tmp_path, options=options)
    save, saved = Training._save, []

    def crashing(training, update, copies):
        if len(saved) == 4:
            raise OSError("no space left on device")
        save(training, update, copies)
        saved.append(update)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "_save", crashing)
        with pytest.raises(OSError, match="no space left"):
            run.train()
    assert not (tmp_path / "summary.json").exists()
    assert read_metrics(tmp_path)["update"].to_pylist()[-1] >= saved[-1]
    Run(plan, tmp_path, resume=True, options=options).train()
    equal_results(tmp_path, finished)


def test_a_run_without_a_checkpoint_starts_again_from_the_beginning(finished, plan, options, tmp_path, monkeypatch):
    run = Run(plan, tmp_path, options=options)
    with monkeypatch.context() as patch:
        patch.setattr(Training, "_loop", lambda *_: (_ for _ in ()).throw(RuntimeError("early")))
        with pytest.raises(RuntimeError, match="early"):
            run.train()


def test_a_full_disk_ends_the_run_and_it_resumes_to_the_same_table(finished, plan, options, tmp_path, monkeypatch):
    write, count = np.savez, []

    def full(file, **arrays):
        count.append(None)
        if len(count) == 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(file, **arrays)

    run = Run(plan, tmp_path, options=options)
    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", full)
        with pytest.raises(Exception, match="No space left"):
            run.train()
    Run(plan, tmp_path, resume=True, options=options).train()
    equal_results(tmp_path, finished)


def test_a_run_goes_on_after_an_early_end(finished, plan, options, tmp_path, monkeypatch):
    run = Run(plan, tmp_path, options=options)
    with monkeypatch.context() as patch:
        patch.setattr(Training, "_end", lambda _: (_ for _ in ()).throw(RuntimeError("early")))
        with pytest.raises(RuntimeError, match="early"):
            run.train()
    Run(plan, tmp_path, resume=True, options=options).train()
    equal_results(tmp_path, finished)


def test_a_damaged_checkpoint_falls_back_to_the_one_before_and_says_so(
    finished, plan, options, tmp_path, monkeypatch, capsys
):
    run = Run(plan, tmp_path, options=options)
    interrupt_after(5, monkeypatch)
    updates = run.train()["updates"]
    monkeypatch.undo()
    path = tmp_path / "checkpoints" / "0-00000" / str(updates) / "state" / "rows.npz"
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1  # one bit
    path.write_bytes(damaged)
    loud = dataclasses.replace(options, quiet=False)
    Run(plan, tmp_path, resume=True, options=loud).train()
    said = capsys.readouterr().err
    assert f"checkpoint at update {updates} is damaged" in said
    assert f"Resuming at update {updates - 4} of 50" in said
    equal_results(tmp_path, finished)


def test_a_folder_whose_checkpoints_are_all_damaged_is_refused(plan, options, tmp_path, monkeypatch):
    run = Run(plan, tmp_path, options=options)
    interrupt_after(5, monkeypatch)
    run.train()
    monkeypatch.undo()
    for path in (tmp_path / "checkpoints").rglob("*"):
        if path.is_file() and path.parent.name != "checkpoints":
            path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"No checkpoint in .* can be read"):
        Run(plan, tmp_path, resume=True, options=options).train()


def test_a_checkpoint_is_not_touched_by_updates_that_follow(plan, tmp_path):
    population = make_population(make_learner(plan.config), plan.learners, devices=jax.devices()[:1])
    state = population.init(training_key(plan), plan.hyper)
    like, packed = jax.eval_shape(lambda: state), jax.jit(pack)
    before = jax.device_get(packed(state))
    copies = packed(state)
    state, _ = population.advance(state, jnp.int32(3))
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(0, jax.device_get(copies), {"key": "threefry2x32"})
    checkpoints.wait()
    found = read_newest(tmp_path)
    checkpoints.close()
    restored = unpack(found.rows, like, found.progress["key"])
    assert jax.tree.map(lambda x: x.dtype, restored) == jax.tree.map(lambda x: x.dtype, like)
    for name, x in packed(jax.tree.map(jnp.asarray, restored)).items():
        np.testing.assert_array_equal(x, before[name])


def test_arrays_of_another_version_are_refused(plan, options, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        interrupt_after(2, patch)
        update = Run(plan, tmp_path, options=options).train()["updates"]
    path = tmp_path / "checkpoints" / "0-00000" / str(update) / "progress" / "metadata"
    path.write_text(path.read_text().replace("died_at", "dyed_at"))
    with pytest.raises(ValueError, match="another version"):
        Run(plan, tmp_path, resume=True, options=options).train()


def test_keys_of_another_generator_are_not_mixed_in(plan, options, tmp_path, monkeypatch):
    run = Run(plan, tmp_path, options=options)
    interrupt_after(2, monkeypatch)
    update = run.train()["updates"]
    monkeypatch.undo()
    path = tmp_path / "checkpoints" / "0-00000" / str(update) / "progress" / "metadata"
    assert '"key": "threefry2x32"' in path.read_text()
    path.write_text(path.read_text().replace('"key": "threefry2x32"', '"key": "rbg"'))
    with pytest.raises(ValueError, match="draws from"):
        Run(plan, tmp_path, resume=True, options=options).train()


def test_another_run_in_the_folder_is_refused(finished, plan):
    with pytest.raises(ValueError, match="out must not hold another run"):
        Run(plan, finished)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 2}, "seed must be 1 .* but it is 2"),
        ({"hyper": Hyper(discount=0.5)}, r"discount must be 0\.99 .* but it is 0\.5"),
        ({"config": Config(env="CartPole-v1")}, "env must be Catch-bsuite .* but it is CartPole-v1"),
    ],
)
def test_resuming_another_plan_is_refused_with_the_field(change, message, finished, plan):
    with pytest.raises(ValueError, match=message):
        Run(dataclasses.replace(plan, **change), finished, resume=True)


def test_resuming_where_there_is_nothing_is_refused(plan, tmp_path):
    with pytest.raises(ValueError, match="holds no run"):
        Run(plan, tmp_path, resume=True)


def test_more_devices_than_there_are_are_refused(plan, tmp_path):
    with pytest.raises(ValueError, match=r"devices must be at most 8.* but it is 9\."):
        Run(plan, tmp_path, options=Options(devices=9))


def test_the_weaker_half_of_the_settings_is_given_up_on_the_way(plan, options, tmp_path):
    rates = jnp.repeat(jnp.array([1e-3, 0.0, 3e-3, 3e38]), 2)
    halved = dataclasses.replace(plan, hyper=Hyper(learning_rate=rates), learners=8, replicas=2, halvings=1)
    summary = Run(halved, tmp_path, options=options).train()
    stopped = {entry["learner"] for entry in summary["stopped"]}
    assert {entry["update"] for entry in summary["stopped"]} == {28}
    assert len(stopped) == 4
    assert {6, 7} <= stopped  # the dead rank last
    assert all(learner ^ 1 in stopped for learner in stopped)  # whole settings
    returns = summary["final_return"]["per_learner"]
    assert [i for i, x in enumerate(returns) if x is None] == sorted(stopped)
    table = pq.read_table(tmp_path / "metrics.parquet").to_pandas()
    assert set(table[table["update"] > 28]["learner"]) == set(range(8)) - stopped
    assert len(table) == 8 * 7 + 4 * 6


def test_halving_changes_nothing_for_those_that_go_on(plan, options, tmp_path):
    rates = jnp.repeat(jnp.array([1e-3, 3e38]), 3)
    settings = dataclasses.replace(plan, hyper=Hyper(learning_rate=rates), learners=6, replicas=3)
    Run(settings, tmp_path / "whole", options=options).train()
    Run(dataclasses.replace(settings, halvings=1), tmp_path / "halved", options=options).train()
    one, other = (summary_of(tmp_path / name)["final_return"]["per_learner"] for name in ("whole", "halved"))
    assert one == other
    assert one[3:] == [None] * 3


def test_learners_that_die_are_named_and_left_out(plan, options, tmp_path):
    hyper = Hyper(learning_rate=jnp.array([1e-3, 3e38, 1e-3]))
    summary = Run(dataclasses.replace(plan, hyper=hyper), tmp_path, options=options).train()
    assert summary["alive"] == 2
    assert summary["died"] == [{"learner": 1, "update": 2}]
    assert summary["final_return"]["per_learner"][1] is None
    assert summary["env_steps_per_s"] == pytest.approx((2 * 400 + 8) / summary["train_s"])
    assert "NaN" not in (tmp_path / "summary.json").read_text()


def test_a_run_in_another_thread_does_not_touch_signals(plan, options, tmp_path):
    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=Run(plan, tmp_path, options=options).train)
    thread.start()
    thread.join()
    assert is_finished(tmp_path)
    assert signal.getsignal(signal.SIGINT) is before


def test_the_first_signal_asks_and_the_second_one_stops_at_once():
    before = signal.getsignal(signal.SIGTERM)
    with stopping(ProgressReporter().note) as asked:
        assert not asked()
        signal.raise_signal(signal.SIGTERM)
        assert asked()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) is before
