"""Logs of episodes: the same numbers from every format, and one line about each that is not one."""

import numpy as np
import pandas as pd
import pytest

from isjax.ope import logs, read_log

GOOD = {
    "episode": [4, 4, 4, 2, 2],
    "step": [0, 1, 2, 0, 1],
    "reward": [1.0, 0.1, -2.5, 3.0, 1e-3],
    "log_pi": [-0.1, -0.2, -np.inf, -0.4, 0.0],
    "log_mu": [-0.7, -0.6, -0.5, -0.4, -0.3],
}
MODEL = {"q": [1.0, 2.0, 3.0, 4.0, 5.0], "v": [0.5, 1.5, 2.5, 3.5, 4.5]}


def good(**changes):
    """The good log with some columns replaced, added, or left out (None)."""
    return {name: np.array(x) for name, x in (GOOD | changes).items() if x is not None}


def write(path, columns):
    """One log in the format of the path's suffix."""
    if path.suffix == ".npz":
        np.savez(path, **columns)
    elif path.suffix == ".csv":
        pd.DataFrame(columns).to_csv(path, index=False)
    else:
        pd.DataFrame(columns).to_parquet(path)
    return path


EACH_FORMAT = pytest.mark.parametrize("suffix", [".parquet", ".csv", ".npz"])


@EACH_FORMAT
def test_each_format_gives_the_same_arrays(tmp_path, suffix):
    log = read_log(write(tmp_path / f"log{suffix}", good(**MODEL, action=["a", "b", "a", "b", "a"])))
    np.testing.assert_array_equal(log.is_valid_t.T, [[True, True, False], [True, True, True]])
    np.testing.assert_array_equal(log.r_t.T, np.float32([[3.0, 1e-3, 0.0], [1.0, 0.1, -2.5]]))
    log_rho = np.array(GOOD["log_pi"]) - np.array(GOOD["log_mu"])
    np.testing.assert_array_equal(log.log_rho_tm1.T, np.float32([[*log_rho[3:], 0.0], log_rho[:3]]))
    np.testing.assert_array_equal(log.q_tm1.T, [[4.0, 5.0, 0.0], [1.0, 2.0, 3.0]])
    np.testing.assert_array_equal(log.v_tm1.T, [[3.5, 4.5, 0.0], [0.5, 1.5, 2.5]])


@EACH_FORMAT
def test_the_order_of_rows_does_not_matter(tmp_path, suffix):
    order = [3, 0, 4, 2, 1]
    shuffled = read_log(write(tmp_path / f"shuffled{suffix}", {name: x[order] for name, x in good().items()}))
    for here, there in zip(shuffled, read_log(write(tmp_path / f"log{suffix}", good())), strict=True):
        np.testing.assert_array_equal(here, there)


def test_without_a_model_there_is_none(tmp_path):
    log = read_log(write(tmp_path / "log.csv", good()))
    assert log.q_tm1 is None
    assert log.v_tm1 is None


@EACH_FORMAT
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"log_mu": None}, "column log_mu is missing; there are episode, step, reward, log_pi"),
        ({"q": MODEL["q"]}, "columns q and v must be given together, but column v is missing"),
        ({"v": MODEL["v"]}, "columns q and v must be given together, but column q is missing"),
        ({"reward": [1.0, 0.1, np.nan, 3.0, 1.0]}, "column reward must hold numbers, but row 3 is nan"),
        ({"reward": [1.0, 0.1, np.inf, 3.0, 1.0]}, "column reward must be finite, but row 3 is inf"),
        ({"log_pi": [-0.1, -0.2, -0.3, 0.4, -0.4]}, "column log_pi must be at most 0, .* but row 4 is 0.4"),
        ({"log_mu": [-0.1, 1.5, -0.3, -0.4, -0.4]}, "column log_mu must be at most 0, .* but row 2 is 1.5"),
        ({"log_mu": [-0.1, -1.5, -np.inf, -0.4, -0.4]}, "column log_mu must be finite: .* but row 3 is -inf"),
        ({"q": [np.nan] * 5, "v": MODEL["v"]}, "column q must hold numbers, but row 1 is nan"),
        ({"step": [0, 1, 1, 0, 1]}, "column step: episode 4 has step 1 twice, in rows 2 and 3"),
        ({"step": [0, 1, 3, 0, 1]}, "column step: episode 4 lacks step 2; row 3 is step 3"),
        ({"step": [0, 1, 2, 1, 2]}, "column step: episode 2 lacks step 0; row 4 is step 1"),
        ({"step": [0, 1, 2, -1, 0]}, "column step must be at least 0, but row 4 is -1"),
        ({"step": [0, 1, 2, 0, 0.5]}, "column step must hold whole numbers, but row 5 is 0.5"),
        ({"episode": [4, 4, 4, 2, 2.5]}, "column episode must hold whole numbers, but row 5 is 2.5"),
        ({"reward": ["1", "2", "x", "4", "5"]}, "column reward must hold numbers, but row 3 is 'x'"),
        ({"episode": ["a", "a", "a", "b", "b"]}, "column episode must hold numbers, but row 1 is 'a'"),
    ],
)
def test_a_bad_log_is_refused_with_its_column_and_row(tmp_path, suffix, changes, message):
    path = write(tmp_path / f"log{suffix}", good(**changes))
    with pytest.raises(ValueError, match=message) as error:
        read_log(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


@EACH_FORMAT
def test_a_log_without_rows_is_refused(tmp_path, suffix):
    path = write(tmp_path / f"log{suffix}", {name: np.zeros(0) for name in GOOD})
    with pytest.raises(ValueError, match="the log holds no rows"):
        read_log(path)


@EACH_FORMAT
@pytest.mark.parametrize("content", [b"", b"\x93\xff\x00 not a log\n\n", b"PAR1", b"PK\x03\x04"])
def test_a_file_of_another_kind_is_refused_in_one_line(tmp_path, suffix, content):
    path = tmp_path / f"log{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=str(path)) as error:
        read_log(path)
    assert "\n" not in str(error.value)


def test_paths_that_are_no_log_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"log.txt must end in .parquet, .csv, .npz"):
        read_log(tmp_path / "log.txt")
    with pytest.raises(ValueError, match=r"log.csv is missing"):
        read_log(tmp_path / "log.csv")
    (tmp_path / "log.npz").mkdir()
    with pytest.raises(ValueError, match="is a folder, not a log"):
        read_log(tmp_path / "log.npz")


def test_a_csv_with_rows_of_different_length_is_refused(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("episode,step,reward,log_pi,log_mu\n0,0,1,-1,-1\n0,1,1,-1\n")
    with pytest.raises(ValueError, match=r"not a CSV file that can be read .*Expected 5 columns, got 4"):
        read_log(path)


@pytest.mark.parametrize("cell", ["", "NA", "nan"])
def test_an_empty_cell_of_a_csv_is_refused(tmp_path, cell):
    path = tmp_path / "log.csv"
    path.write_text(f"episode,step,reward,log_pi,log_mu\n0,0,1,-1,-1\n0,1,{cell},-1,-1\n")
    with pytest.raises(ValueError, match="column reward must hold numbers, but row 2 is nan"):
        read_log(path)


def test_a_column_that_is_there_twice_is_refused(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("episode,step,reward,reward,log_pi,log_mu\n0,0,1,1,-1,-1\n")
    with pytest.raises(ValueError, match="column reward is there 2 times"):
        read_log(path)


@pytest.mark.parametrize("reward", [np.zeros(5, bool), np.zeros(5, complex)])
def test_a_column_of_another_type_is_refused(tmp_path, reward):
    with pytest.raises(ValueError, match="column reward must hold numbers, but it holds"):
        read_log(write(tmp_path / "log.npz", good(reward=reward)))


def test_arrays_of_other_shapes_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"column reward must be \[5\], but its shape is \[4\]"):
        read_log(write(tmp_path / "log.npz", good(reward=np.zeros(4))))


def test_objects_are_not_unpickled(tmp_path):
    with pytest.raises(ValueError, match="pickle"):
        read_log(write(tmp_path / "log.npz", good(reward=np.array([1, 2, None, 4, 5]))))


def test_densities_may_be_positive(tmp_path):
    path = write(tmp_path / "log.parquet", good(log_pi=[-0.1, -0.2, -0.3, 0.5, 2.0]))
    log = read_log(path, densities=True)
    np.testing.assert_array_equal(log.log_rho_tm1.T[0], np.float32([0.5 + 0.4, 2.0 + 0.3, 0.0]))


def test_the_logarithm_of_one_may_be_off_by_rounding(tmp_path):
    log = read_log(write(tmp_path / "log.parquet", good(log_pi=[2e-7, -0.2, -0.3, 0.0, 0.0])))
    assert np.isfinite(log.log_rho_tm1).all()


def test_one_long_episode_among_many_short_ones_is_refused_rather_than_padded(monkeypatch):
    monkeypatch.setattr(logs, "MOST_CELLS", 5)
    with pytest.raises(ValueError, match="2 episodes, the longest of 3 steps, make an array of 6 cells"):
        logs.pack(good())


def test_a_million_rows_are_packed_where_they_belong(tmp_path):
    rng = np.random.default_rng(0)
    length = rng.integers(1, 200, 10_000)
    episode = np.repeat(np.arange(10_000), length)
    step = np.arange(length.sum()) - np.repeat(np.cumsum(length) - length, length)
    columns = {"episode": episode, "step": step, "reward": 1.0 * episode + step / 256}
    columns |= {"log_pi": -(step % 7) / 8, "log_mu": -(step % 5) / 8}
    order = rng.permutation(len(step))
    log = read_log(write(tmp_path / "log.parquet", {name: x[order] for name, x in columns.items()}))
    t = np.arange(length.max())[:, None]
    is_valid = t < length[None]
    np.testing.assert_array_equal(log.is_valid_t, is_valid)
    np.testing.assert_array_equal(log.r_t, np.where(is_valid, np.arange(10_000)[None] + t / 256, 0).astype(np.float32))
    np.testing.assert_array_equal(log.log_rho_tm1, np.where(is_valid, (t % 5 - t % 7) / 8, 0).astype(np.float32))
