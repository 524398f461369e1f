import dataclasses
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
from isjax.run.checkpoints import Checkpoints, copy_leaves
from isjax.run.progress import Silent
from isjax.run.summary import training_key
from isjax.run.table import parts, read_metrics
from isjax.run.train import Options, Run, is_finished, stopping


def summary_of(folder) -> dict:
    return json.loads((folder / "summary.json").read_text())


def interrupt_after(run: Run, chunks: int, monkeypatch) -> None:
    """Sends SIGINT to this process while chunk number `chunks` is being recorded."""
    record, count = run._record, []

    def counted(*args):
        record(*args)
        count.append(None)
        if len(count) == chunks:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(run, "_record", counted)


def equal_results(one, other) -> None:
    assert pq.read_table(one / "metrics.parquet").equals(pq.read_table(other / "metrics.parquet"))
    assert summary_of(one)["final_return"] == summary_of(other)["final_return"]


def saved_state(folder, plan):
    population = make_population(make_learner(plan.config), plan.learners, devices=jax.devices()[:1])
    checkpoints = Checkpoints(folder / "checkpoints")
    found = checkpoints.restore(population.init(training_key(plan), plan.hyper))
    checkpoints.close()
    return found


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
    assert parts(finished) == []


def test_the_table_does_not_depend_on_how_often_is_saved(finished, plan, tmp_path):
    Run(plan, tmp_path, options=Options(quiet=True, devices=1)).train()
    equal_results(tmp_path, finished)


def test_the_last_two_checkpoints_are_kept(finished, plan):
    assert sorted(int(path.name) for path in (finished / "checkpoints").iterdir()) == [48, 50]
    found = saved_state(finished, plan)
    assert found.update == 50
    assert np.all(np.asarray(found.state.update) == 50)


@pytest.mark.parametrize("chunks", [1, 5, 11])
def test_a_run_that_is_interrupted_and_resumed_equals_one_that_was_not(
    chunks, finished, plan, options, tmp_path, monkeypatch
):
    run = Run(plan, tmp_path, options=options)
    interrupt_after(run, chunks, monkeypatch)
    summary = run.train()
    assert summary["status"] == summary_of(tmp_path)["status"] == "interrupted"
    assert summary["final_return"]["iqm"] is None
    assert summary["updates"] == pq.read_table(tmp_path / "metrics.parquet")["update"].to_pylist()[-1] < 50
    resumed = Run(plan, tmp_path, resume=True, options=options).train()
    assert resumed["status"] == "finished"
    assert resumed["wall_s"] > summary["wall_s"]
    equal_results(tmp_path, finished)


def test_a_crash_between_checkpoints_loses_no_saved_row_and_resumes_to_the_same_table(
    finished, plan, options, tmp_path, monkeypatch
):
    run = Run(plan, tmp_path, options=options)
    save, saved = run._save, []

    def crashing(update, copies):
        if len(saved) == 4:
            raise OSError("no space left on device")
        save(update, copies)
        saved.append(update)

    monkeypatch.setattr(run, "_save", crashing)
    with pytest.raises(OSError, match="no space left"):
        run.train()
    assert not (tmp_path / "summary.json").exists()
    assert read_metrics(tmp_path)["update"].to_pylist()[-1] >= saved[-1]
    Run(plan, tmp_path, resume=True, options=options).train()
    equal_results(tmp_path, finished)


def test_a_run_without_a_checkpoint_starts_again_from_the_beginning(finished, plan, options, tmp_path, monkeypatch):
    run = Run(plan, tmp_path, options=options)
    monkeypatch.setattr(run, "_loop", lambda *_: (_ for _ in ()).throw(RuntimeError("early")))
    with pytest.raises(RuntimeError, match="early"):
        run.train()
    Run(plan, tmp_path, resume=True, options=options).train()
    equal_results(tmp_path, finished)


def test_a_damaged_checkpoint_falls_back_to_the_one_before_and_says_so(
    finished, plan, options, tmp_path, monkeypatch, capsys
):
    run = Run(plan, tmp_path, options=options)
    interrupt_after(run, 5, monkeypatch)
    updates = run.train()["updates"]
    newest = tmp_path / "checkpoints" / str(updates)
    for path in (newest / "state").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    loud = dataclasses.replace(options, quiet=False)
    Run(plan, tmp_path, resume=True, options=loud).train()
    said = capsys.readouterr().err
    assert f"checkpoint at update {updates} is damaged" in said
    assert f"Resuming at update {updates - 4} of 50" in said
    equal_results(tmp_path, finished)


def test_a_folder_whose_checkpoints_are_all_damaged_is_refused(plan, options, tmp_path, monkeypatch):
    run = Run(plan, tmp_path, options=options)
    interrupt_after(run, 5, monkeypatch)
    run.train()
    for path in (tmp_path / "checkpoints").rglob("*"):
        if path.is_file() and path.parent.name != "checkpoints":
            path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"No checkpoint in .* can be read"):
        Run(plan, tmp_path, resume=True, options=options).train()


def test_a_checkpoint_is_not_touched_by_updates_that_follow(plan, tmp_path):
    population = make_population(make_learner(plan.config), plan.learners, devices=jax.devices()[:1])
    state = population.init(training_key(plan), plan.hyper)
    before = jax.device_get(copy_leaves(state))
    checkpoints = Checkpoints(tmp_path)
    copies = copy_leaves(state)
    state, _ = population.advance(state, jnp.int32(3))
    checkpoints.save(0, copies, {"key": "threefry2x32"})
    state, _ = population.advance(state, jnp.int32(3))
    checkpoints.wait()
    found = checkpoints.restore(state)
    checkpoints.close()
    for name, x in copy_leaves(found.state).items():
        np.testing.assert_array_equal(x, before[name])
        assert x.dtype == before[name].dtype


def test_keys_of_another_generator_are_not_mixed_in(plan, options, tmp_path, monkeypatch):
    run = Run(plan, tmp_path, options=options)
    interrupt_after(run, 2, monkeypatch)
    update = run.train()["updates"]
    path = tmp_path / "checkpoints" / str(update) / "progress" / "metadata"
    assert "fry" in path.read_text()
    path.write_text(path.read_text().replace("fry", "rbg"))
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


def test_learners_that_die_are_named_and_left_out(plan, options, tmp_path):
    hyper = Hyper(learning_rate=jnp.array([1e-3, jnp.inf, 1e-3]))
    summary = Run(dataclasses.replace(plan, hyper=hyper), tmp_path, options=options).train()
    assert summary["alive"] == 2
    assert summary["died"] == [{"learner": 1, "update": 1}]
    assert summary["final_return"]["per_learner"][1] is None
    assert summary["env_steps_per_s"] == pytest.approx(2 * 400 / summary["train_s"])
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
    with stopping(Silent()) as asked:
        assert not asked()
        signal.raise_signal(signal.SIGTERM)
        assert asked()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) is before
