import numpy as np
import pyarrow.parquet as pq
import pytest

from isjax.run import table as table_module
from isjax.run.table import Table, parts, read_metrics, rows


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
    names = rows(4, metrics(4)).column_names
    assert names[:5] == ["learner", "update", "env_steps", "episode_return", "episodes"]
    assert names[5:] == ["loss/total", "ratio/max", "alive", "died_at"]


def test_a_dead_learner_is_null_where_there_was_nothing_but_keeps_its_last_steps():
    given = metrics(4) | {
        "alive": np.array([True, False, True]),
        "env_steps": np.array([32, 8, 32], np.int32),
        "episode_return": np.array([np.nan, np.nan, 1.0], np.float32),
        "ratio/max": np.array([np.inf, -np.inf, 2.0], np.float32),
    }
    found = rows(4, given).to_pydict()
    assert found["update"] == [4, 4, 4]
    assert found["env_steps"] == [32, 8, 32]
    assert found["episode_return"] == [None, None, 1.0]
    assert found["ratio/max"] == [np.inf, None, 2.0]


def test_what_was_flushed_can_be_read_before_the_run_ends(tmp_path):
    table = Table(tmp_path)
    table.append(4, metrics(4))
    table.flush()
    table.append(8, metrics(8))
    assert read_metrics(tmp_path)["update"].to_pylist() == [4] * 3


def test_rows_beyond_a_checkpoint_are_dropped_and_the_rest_merged(tmp_path):
    table = Table(tmp_path)
    for update in (4, 8, 12):
        table.append(update, metrics(update))
        table.flush()
    again = Table(tmp_path)
    again.drop_after(8)
    again.append(12, metrics(12))
    again.merge(keep_parts=False)
    assert read_metrics(tmp_path)["update"].to_pylist() == [4] * 3 + [8] * 3 + [12] * 3
    assert parts(tmp_path) == []
    assert pq.read_table(tmp_path / "metrics.parquet").schema == rows(4, metrics(4)).schema


def test_merging_may_keep_the_parts_for_a_later_resume(tmp_path):
    table = Table(tmp_path)
    table.append(4, metrics(4))
    table.merge(keep_parts=True)
    assert len(parts(tmp_path)) == 1
    assert read_metrics(tmp_path).equals(pq.read_table(tmp_path / "metrics.parquet"))


def test_few_rows_wait_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(table_module, "ROWS_IN_MEMORY", 6)
    table = Table(tmp_path)
    table.append(4, metrics(4))
    assert parts(tmp_path) == []
    table.append(8, metrics(8))
    assert [part.stem for part in parts(tmp_path)] == ["000000000008"]


def test_a_folder_without_rows_and_a_damaged_table_are_named(tmp_path):
    with pytest.raises(ValueError, match="has no rows yet"):
        read_metrics(tmp_path)
    (tmp_path / "metrics.parquet").write_bytes(b"not a table")
    with pytest.raises(ValueError, match="cannot be read"):
        read_metrics(tmp_path)
