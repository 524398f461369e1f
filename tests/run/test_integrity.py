"""What is restored is what was written: a run resumes to the same end, or says what is missing."""

import json
import logging
import shutil
import signal

import numpy as np
import pyarrow.parquet as pq
import pytest

from isjax.report import write_report
from isjax.run import train as train_module
from isjax.run.checkpoints import read_newest
from isjax.run.files import Damaged
from isjax.run.integrity import is_finished
from isjax.run.restore import open_run
from isjax.run.train import Run
from isjax.run.training import Training
from tests.run.test_train import equal_results

PART = "0-00000"


@pytest.fixture(scope="module", autouse=True)
def compiled_once():
    """Programs of one plan are compiled once."""
    made, compile_programs = {}, train_module.compile_programs

    def remembered(plan, *where):
        key = plan.digest, where[0], len(where[1])
        if key not in made:
            made[key] = compile_programs(plan, *where)
        return made[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_module, "compile_programs", remembered)
        yield


@pytest.fixture(scope="module")
def stopped(plan, options, tmp_path_factory):
    """The folder of a run that was stopped on the way, at update 28 or so."""
    folder, record, count = tmp_path_factory.mktemp("runs") / "stopped", Training._record, []

    def counted(*args):
        record(*args)
        count.append(None)
        if len(count) == 6:
            signal.raise_signal(signal.SIGINT)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Training, "_record", counted)
        Run(plan, folder, options=options).train()
    return folder


@pytest.fixture
def copy(stopped, tmp_path):
    shutil.copytree(stopped, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.fixture
def whole(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "whole")
    return tmp_path / "whole"


def checkpoints(folder):
    """Those of the run's one part, the newest first."""
    return sorted((folder / "checkpoints" / PART).iterdir(), key=lambda path: -int(path.name))


def resave(path, change):
    """Other arrays in a file that is as whole as before."""
    with np.load(path) as file:
        arrays = {name: change(name, x) for name, x in file.items()}
    np.savez(path, **arrays)


def one_learner(name, x):
    return x[:1]


def other_number(name, x):
    x = x.copy()
    x.reshape(-1)[0] += x.dtype.type(1)
    return x


@pytest.mark.parametrize("change", [one_learner, other_number])
def test_a_checkpoint_that_was_rewritten_is_not_gone_on_with(change, copy, finished, plan, options):
    newest = checkpoints(copy)[0]
    resave(newest / "state" / "rows.npz", change)
    assert read_newest(newest.parent, np.arange(3), plan.digest).damaged == [int(newest.name)]
    Run(plan, copy, resume=True, options=options).train()
    equal_results(copy, finished)


def test_a_folder_whose_checkpoints_hold_fewer_learners_is_refused(copy, plan, options):
    for each in checkpoints(copy):
        resave(each / "state" / "rows.npz", one_learner)
        (each / "state" / "rows.json").unlink()
        progress = json.loads((each / "progress" / "metadata").read_text())
        kept = {name: progress[name] for name in ("key", "layout", "size", "teams", "seconds")}
        (each / "progress" / "metadata").write_text(json.dumps(kept))  # as an earlier version wrote it
    with pytest.raises(Damaged, match="it holds 1 learners, but the run has 3 there"):
        Run(plan, copy, resume=True, options=options).train()


@pytest.mark.parametrize("content", ["{}", "[]", "", '{"key": "threefry2x32", "layout": 5}', "NaN", "\udcff"])
def test_a_checkpoint_without_its_metadata_falls_back_to_the_one_before(content, copy, finished, plan, options):
    newest = checkpoints(copy)[0]
    (newest / "progress" / "metadata").write_bytes(content.encode(errors="surrogateescape"))
    Run(plan, copy, resume=True, options=options).train()
    equal_results(copy, finished)
    assert newest.name not in [path.name for path in checkpoints(copy)]


def test_a_checkpoint_of_another_update_or_run_is_not_gone_on_with(copy, finished, plan, options):
    newest = checkpoints(copy)[0]
    newest.rename(newest.with_name(str(int(newest.name) + 4)))
    Run(plan, copy, resume=True, options=options).train()
    equal_results(copy, finished)
    with pytest.raises(Damaged, match="of another run"):
        read_newest(copy / "checkpoints" / PART, np.arange(3), "another")


def test_checkpoints_without_checksums_are_those_of_an_earlier_version_and_go_on(copy, finished, plan, options):
    for each in checkpoints(copy):
        (each / "state" / "rows.json").unlink()
        progress = json.loads((each / "progress" / "metadata").read_text())
        kept = {name: progress[name] for name in ("key", "layout", "size", "teams", "seconds")}
        (each / "progress" / "metadata").write_text(json.dumps(kept))
    config = json.loads((copy / "config.json").read_text())
    del config["checksums"]
    (copy / "config.json").write_text(json.dumps(config))
    for file in (copy / "metrics" / PART).iterdir():
        pq.write_table(pq.read_table(file), file)
    Run(plan, copy, resume=True, options=options).train()
    equal_results(copy, finished)


@pytest.mark.parametrize("place", [0, 2, -1])
@pytest.mark.parametrize("damage", ["removed", "empty", "a row is missing", "a value", "of others"])
def test_rows_that_are_missing_or_damaged_are_named_with_what_to_do(place, damage, copy, plan, options):
    file = sorted((copy / "metrics" / PART).iterdir())[place]
    if damage == "removed":
        file.unlink()
    elif damage == "empty":
        file.write_bytes(b"")
    elif damage == "a value":
        table = pq.read_table(file)
        pq.write_table(table.set_column(3, "episode_return", (np.full(len(table), 9, np.float32),)), file)
    else:
        table = pq.read_table(file)
        others = table.set_column(0, "learner", (table["learner"].to_numpy() + 1,))
        pq.write_table(table.slice(1) if damage == "a row is missing" else others, file)
    with pytest.raises(Damaged, match=rf"metrics.*To train its learners again, remove .*{PART}"):
        Run(plan, copy, resume=True, options=options).train()


def test_what_to_do_about_missing_rows_leads_to_the_same_end(copy, finished, plan, options):
    sorted((copy / "metrics" / PART).iterdir())[1].unlink()
    with pytest.raises(Damaged, match=r"lacks|missing"):
        write_report(copy)
    shutil.rmtree(copy / "checkpoints" / PART)
    Run(plan, copy, resume=True, options=options).train()
    equal_results(copy, finished)


@pytest.mark.parametrize("is_sealed", [True, False])
def test_settings_that_were_edited_are_refused(is_sealed, copy, plan, options):
    config = json.loads((copy / "config.json").read_text())
    config["seed"] = 9
    if not is_sealed:
        del config["checksums"]
    (copy / "config.json").write_text(json.dumps(config))
    message = "seed was another, but it is 9" if is_sealed else "of another run"
    with pytest.raises(Damaged, match=message):
        open_run(copy).pick(0)


@pytest.mark.parametrize("damage", ["empty", "fewer learners", "other returns"])
def test_a_damaged_outcome_is_named_and_made_again(damage, whole, finished, plan, options):
    path = whole / "outcomes" / f"{PART}.npz"
    if damage == "empty":
        path.write_bytes(b"")
    else:
        resave(path, lambda name, x: x[:1] if damage == "fewer learners" and x.ndim else x + 1 if x.ndim == 2 else x)
    assert not is_finished(whole)
    with pytest.raises(Damaged, match=rf"{PART}\.npz is damaged.*train --resume"):
        open_run(whole)
    Run(plan, whole, resume=True, options=options).train()
    equal_results(whole, finished)


def test_a_finished_run_that_lost_its_outcome_is_not_taken_for_what_is_left(whole, finished, plan, options):
    (whole / "outcomes" / f"{PART}.npz").unlink()
    with pytest.raises(Damaged, match="says that it is finished, but results are missing"):
        open_run(whole)
    Run(plan, whole, resume=True, options=options).train()
    equal_results(whole, finished)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"status": "finished"}', b'{"status": 5}'])
def test_a_damaged_summary_is_named_by_the_page_and_written_again_by_resuming(content, whole, finished, plan, options):
    (whole / "summary.json").write_bytes(content)
    with pytest.raises(Damaged, match=r"summary\.json .* Resuming what is in .* writes it again"):
        write_report(whole)
    assert not is_finished(whole)
    Run(plan, whole, resume=True, options=options).train()
    equal_results(whole, finished)


def test_a_finished_table_that_lost_rows_is_no_finished_run(whole, plan, options):
    table = pq.read_table(whole / "metrics.parquet")
    pq.write_table(table.slice(3), whole / "metrics.parquet")
    with pytest.raises(Damaged, match=r"metrics\.parquet is not what was written: the rows of update 4 are missing"):
        write_report(whole)
    (whole / "metrics.parquet").write_bytes(b"")
    assert not is_finished(whole)
    with pytest.raises(Damaged, match=r"metrics\.parquet cannot be read: .*remove it, checkpoints and outcomes"):
        Run(plan, whole, resume=True, options=options).train()


def test_reading_a_learner_writes_nothing(copy):
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*")}
    (checkpoints(copy)[0] / "progress" / "metadata").write_text("{}")
    with pytest.raises(Damaged, match=rf"{checkpoints(copy)[0].name} is damaged, and the one before is of update"):
        open_run(copy).pick(0)
    assert set(copy.rglob("*")) == set(before)


def test_the_libraries_below_say_nothing(plan, options, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        Run(plan, tmp_path / "run", options=options).train()
    assert [record.name for record in caplog.records] == []


def test_leftovers_of_a_killed_process_are_gone_once_the_run_has_ended(copy, finished, plan, options):
    left = [".metrics.parquet.7", ".summary.json.7", f"metrics/{PART}/.000000000099.parquet.7", ".metrics.done/x"]
    left += [f"checkpoints/{PART}/32.orbax-checkpoint-tmp/state"]
    for name in left:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_text("")
    Run(plan, copy, resume=True, options=options, write_page=write_report).train()
    equal_results(copy, finished)
    found, expected = ({str(p.relative_to(run)) for p in run.rglob("*")} for run in (copy, finished))
    assert found == expected


def test_a_folder_or_a_fifo_in_the_way_is_named_before_anything_is_trained(copy, plan):
    (copy / "report.html").unlink(missing_ok=True)
    (copy / "report.html").mkdir()
    with pytest.raises(Damaged, match=r"report\.html must be a file, but it is a folder: remove it"):
        Run(plan, copy, resume=True)
