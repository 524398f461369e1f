import numpy as np
import pyarrow.parquet as pq
import pytest

from isjax.report.curves import read_curves
from isjax.run import table as table_module
from isjax.run.table import Table, merge, read_metrics, rows

THREE = np.arange(3)


def a_table(folder, part: str = "0-00000", learners: np.ndarray = THREE) -> Table:
    return Table(folder / "metrics" / part, learners)


def files(folder) -> list[str]:
    return sorted(path.stem for path in (folder / "metrics").rglob("*.parquet"))


def metrics(update: int, learners: int = 3) -> dict[str, np.ndarray]:
    return {
        "update": np.full(learners, update, np.int32),
        "env_steps": np.full(learners, 8 * update, np.int32),
        "episode_return": np.arange(learners, dtype=np.float32) + update,
        "episodes": np.ones(learners, np.float32),
        "ratio/max": np.full(learners, 1.5, np.float32),
        "loss/total": np.full(learners, 0.5, np.float32),
        "alive": np.ones(learners, bool),
        "died_at": np.full(learners, -1, np.int32),
    }


def test_columns_come_in_the_order_one_reads_them():
    names = rows(4, THREE, metrics(4)).column_names
    assert names[:5] == ["learner", "update", "env_steps", "episode_return", "episodes"]
    assert names[5:] == ["loss/total", "ratio/max", "alive", "died_at"]


def test_a_dead_learner_is_null_where_there_was_nothing_but_keeps_its_last_steps():
    given = metrics(4) | {
        "alive": np.array([True, False, True]),
        "env_steps": np.array([32, 8, 32], np.int32),
        "episode_return": np.array([np.nan, np.nan, 1.0], np.float32),
        "ratio/max": np.array([np.inf, -np.inf, 2.0], np.float32),
    }
    found = rows(4, THREE, given).to_pydict()
    assert found["update"] == [4, 4, 4]
    assert found["env_steps"] == [32, 8, 32]
    assert found["episode_return"] == [None, None, 1.0]
    assert found["ratio/max"] == [np.inf, None, 2.0]


def test_a_histogram_is_a_column_of_lists():
    shares = np.array([[0.25, 0.75], [np.nan, np.nan], [1.0, 0.0]], np.float32)
    given = metrics(4) | {"alive": np.array([True, False, True]), "ratio/histogram": shares}
    column = rows(4, THREE, given)["ratio/histogram"]
    np.testing.assert_array_equal(np.stack(column.to_pandas()), shares)


def test_what_was_flushed_can_be_read_before_the_run_ends(tmp_path):
    table = a_table(tmp_path)
    table.append(4, metrics(4))
    table.flush()
    table.append(8, metrics(8))
    assert read_metrics(tmp_path)["update"].to_pylist() == [4] * 3


def test_rows_beyond_a_checkpoint_are_dropped_and_the_rest_merged(tmp_path):
    table = a_table(tmp_path)
    for update in (4, 8, 12):
        table.append(update, metrics(update))
        table.flush()
    table.drop_after(8)
    merge(tmp_path, [[(tmp_path / "metrics" / "0-00000", 3)]], keep=False)
    assert pq.read_table(tmp_path / "metrics.parquet")["update"].to_pylist() == [4] * 3 + [8] * 3
    assert files(tmp_path) == []
    assert pq.read_table(tmp_path / "metrics.parquet").schema == rows(4, THREE, metrics(4)).schema


def test_parts_are_merged_by_update_and_then_by_learner_however_they_were_flushed(tmp_path):
    groups = {"0-00000": np.array([0, 1]), "0-00001": np.array([2])}
    for part, learners in groups.items():
        table = a_table(tmp_path, part, learners)
        for update in (4, 8, 12):
            table.append(update, metrics(update, len(learners)))
            if part == "0-00000" or update == 12:
                table.flush()
    later = a_table(tmp_path, "1-00000", np.array([1]))
    later.append(16, metrics(16, 1))
    later.flush()
    at = {part: (tmp_path / "metrics" / part, len(learners)) for part, learners in groups.items()}
    merge(tmp_path, [list(at.values()), [(tmp_path / "metrics" / "1-00000", 1)]], keep=True)
    found = pq.read_table(tmp_path / "metrics.parquet")
    assert found["update"].to_pylist() == [4] * 3 + [8] * 3 + [12] * 3 + [16]
    assert found["learner"].to_pylist() == [0, 1, 2] * 3 + [1]


def test_a_run_that_went_on_with_more_columns_has_nulls_before(tmp_path):
    table = a_table(tmp_path)
    for update in (4, 8):
        more = {"ratio/histogram": np.full((3, 2), 0.5, np.float32)} if update == 8 else {}
        table.append(update, metrics(update) | more)
        table.flush()
    before = read_metrics(tmp_path)
    merge(tmp_path, [[(tmp_path / "metrics" / "0-00000", 3)]], keep=False)
    assert read_metrics(tmp_path)["ratio/histogram"].to_pylist() == [None] * 3 + [[0.5, 0.5]] * 3
    assert read_metrics(tmp_path).equals(before)
    read = read_curves(tmp_path, {"learners": 3, "config": {"num_envs": 2, "unroll_length": 4}})
    np.testing.assert_array_equal(read.columns["ratio/histogram"][:, 0], [[np.nan, np.nan], [0.5, 0.5]])


def test_merging_may_keep_the_files_for_a_later_resume(tmp_path):
    table = a_table(tmp_path)
    table.append(4, metrics(4))
    table.flush()
    merge(tmp_path, [[(tmp_path / "metrics" / "0-00000", 3)]], keep=True)
    assert len(files(tmp_path)) == 1
    assert read_metrics(tmp_path).equals(pq.read_table(tmp_path / "metrics.parquet"))


def test_being_killed_while_merged_files_are_removed_loses_nothing(tmp_path, monkeypatch):
    table = a_table(tmp_path)
    for update in (4, 8):
        table.append(update, metrics(update))
        table.flush()
    parts = [[(tmp_path / "metrics" / "0-00000", 3)]]

    def killed(path, **_):
        next(path.rglob("*.parquet"), path / "nothing").unlink(missing_ok=True)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(table_module.shutil, "rmtree", lambda path, **_: path.exists() and killed(path))
        with pytest.raises(KeyboardInterrupt):
            merge(tmp_path, parts, keep=False)
    merge(tmp_path, parts, keep=False)
    assert read_metrics(tmp_path)["update"].to_pylist() == [4] * 3 + [8] * 3


def test_nothing_is_merged_where_there_is_nothing(tmp_path):
    merge(tmp_path, [[(tmp_path / "metrics" / "0-00000", 3)]], keep=True)
    assert not (tmp_path / "metrics.parquet").exists()


def test_few_rows_wait_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(table_module, "ROWS_IN_MEMORY", 6)
    table = a_table(tmp_path)
    table.append(4, metrics(4))
    assert files(tmp_path) == []
    table.append(8, metrics(8))
    assert files(tmp_path) == ["000000000008"]


def test_a_folder_without_rows_and_a_damaged_table_are_named(tmp_path):
    with pytest.raises(ValueError, match="has no rows yet"):
        read_metrics(tmp_path)
    (tmp_path / "metrics.parquet").write_bytes(b"not a table")
    with pytest.raises(ValueError, match="cannot be read"):
        read_metrics(tmp_path)


def test_a_column_that_was_renamed_or_removed_is_not_what_was_written(tmp_path):
    table = a_table(tmp_path)
    table.append(4, metrics(4))
    table.flush()
    (file,) = (tmp_path / "metrics").rglob("*.parquet")
    read = pq.read_table(file)
    names = [name.replace("loss/total", "loss/totam") for name in read.column_names]
    for other in (read.rename_columns(names), read.drop_columns(["loss/total"])):
        pq.write_table(other.replace_schema_metadata(read.schema.metadata), file)
        with pytest.raises(ValueError, match="cannot be read: its columns are others"):
            read_metrics(tmp_path)
