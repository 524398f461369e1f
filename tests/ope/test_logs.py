"""Logs of episodes: the same numbers from every format, and one line about each that is not one."""

import io
import os
import struct
import zipfile
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from isjax.ope import logs, packing, read_log
from isjax.ope.precision import in_float64

GOOD = {
    "episode": [4, 4, 4, 2, 2],
    "step": [0, 1, 2, 0, 1],
    "reward": [1.0, 0.1, -2.5, 3.0, 1e-3],
    "log_pi": [-0.1, -0.2, -np.inf, -0.4, 0.0],
    "log_mu": [-0.7, -0.6, -0.5, -0.4, -0.3],
}
HEADER = ",".join(GOOD)
LINES = [",".join(str(x) for x in row) for row in zip(*GOOD.values(), strict=True)]
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
    monkeypatch.setattr(packing, "MOST_CELLS", 5)
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


@EACH_FORMAT
@pytest.mark.parametrize("first", [2**53, 2**63 - 1, -(2**63)])
def test_episodes_next_to_each_other_stay_apart_however_large_their_numbers(tmp_path, suffix, first):
    episode = np.array([first + 1, first + 1, first + 1, first, first], np.uint64 if first > 0 else np.int64)
    log = read_log(write(tmp_path / f"log{suffix}", good(episode=episode)))
    np.testing.assert_array_equal(log.is_valid_t.T, [[True, True, False], [True, True, True]])


@pytest.mark.parametrize(("kind", "first"), [(np.float64, 2**53), (np.float32, 2**24), (np.float16, 2**11)])
def test_episodes_that_floats_cannot_tell_apart_are_refused(tmp_path, kind, first):
    path = write(tmp_path / "log.npz", good(episode=np.array([0, 0, 0, first, first], kind)))
    message = f"must hold whole numbers below {first} where they are {np.dtype(kind).name}, but row 4 is {first}"
    with pytest.raises(ValueError, match=message):
        read_log(path)


@EACH_FORMAT
@pytest.mark.parametrize("size", [1e-40, 1e-310, 1e39, 1e300])
def test_rewards_that_float32_cannot_hold_are_refused_there_and_read_in_float64(tmp_path, suffix, size):
    path = write(tmp_path / f"log{suffix}", good(reward=size * np.array(GOOD["reward"])))
    with pytest.raises(ValueError, match=r"column reward must lie between 1e-30 and 1e\+38 in size for float32"):
        read_log(path)
    with in_float64():
        log = read_log(path)
    assert log.r_t.dtype == np.float64
    np.testing.assert_allclose(np.asarray(log.r_t).T[0, :2], size * np.array(GOOD["reward"][3:]), rtol=1e-15)


def test_exact_types_of_arrow_are_numbers(tmp_path):
    columns = {
        "episode": pa.array([Decimal(2**53 + 1)] * 3 + [Decimal(2**53)] * 2, pa.decimal128(30, 0)),
        "step": pa.array(GOOD["step"], pa.uint8()).dictionary_encode(),
        "reward": pa.array([Decimal("0.25")] * 5, pa.decimal128(20, 2)),
        "log_pi": pa.array(GOOD["log_pi"]).dictionary_encode(),
        "log_mu": pa.array(GOOD["log_mu"]),
    }
    pq.write_table(pa.table(columns), tmp_path / "log.parquet")
    log = read_log(tmp_path / "log.parquet")
    np.testing.assert_array_equal(log.r_t.T, [[0.25, 0.25, 0.0], [0.25, 0.25, 0.25]])


def test_columns_of_objects_are_packed_exactly():
    columns = {name: pd.Series(x, dtype=object).to_numpy() for name, x in GOOD.items()}
    columns["episode"] = np.array([2**53 + 1] * 3 + [2**53] * 2, object)
    columns["reward"] = np.array([1, 0.5, Decimal("0.25"), np.float32(2.0), np.int8(3)], object)
    np.testing.assert_array_equal(logs.pack(columns).r_t.T, [[2.0, 3.0, 0.0], [1.0, 0.5, 0.25]])
    for bad, found in ((pd.NA, "<NA>"), (None, "None"), (True, "True"), (1j, "1j")):
        columns["reward"][3] = bad
        with pytest.raises(ValueError, match=f"column reward must hold numbers, but row 4 is {found}"):
            logs.pack(columns)


def noted(notes, rows=LINES):
    """A CSV with a column of notes before the others."""
    return f"note,{HEADER}\n" + "".join(f"{note},{row}\n" for note, row in zip(notes, rows, strict=True))


@pytest.mark.parametrize(
    "note",
    ['"a\nb, ""c"""', '"' + "\n,\n" * 200_000 + '"', "x" * 2_000_000, '5" nails'],
    ids=["line break", "megabytes of line breaks", "a cell of megabytes", "inches"],
)
def test_cells_that_are_not_used_may_hold_anything(tmp_path, note):
    (tmp_path / "log.csv").write_text(noted([note] * 5))
    (tmp_path / "plain.csv").write_text(noted(["x"] * 5))
    for here, there in zip(read_log(tmp_path / "log.csv"), read_log(tmp_path / "plain.csv"), strict=True):
        np.testing.assert_array_equal(here, there)


@pytest.mark.parametrize("before", ["", '5" nails'])
def test_a_quotation_mark_that_is_never_closed_does_not_swallow_rows(tmp_path, before):
    rows = [f"{LINES[0]},{before}", *(f"{row},x" for row in LINES[1:3]), f'{LINES[3]},"open', f"{LINES[4]},x"]
    (tmp_path / "log.csv").write_text("\n".join([f"{HEADER},note", *rows]))
    with pytest.raises(ValueError, match="unexpected end of data"):
        read_log(tmp_path / "log.csv")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (f"{HEADER}\n".replace(",", ";"), "columns must be separated by commas, but its header is 'episode;step"),
        (HEADER.encode("utf-16"), "it must be in UTF-8, but it is in UTF-16"),
        (f"{HEADER}\n0,0,1_000,-1,-1\n", "column reward must hold numbers, but row 1 is '1_000'"),
        (f"{HEADER}\n0,0,\u0661,-1,-1\n", "column reward must hold numbers, but row 1 is"),
        (f'{HEADER}\n0,0,"1,000.5",-1,-1\n', "column reward must hold numbers, but row 1 is '1,000.5'"),
        (f"{HEADER}\n0,0,{'z' * 10**6},-1,-1\n", "column reward must hold numbers, but row 1 is 'zzzz"),
        (f"{HEADER}\n0,0,{'9' * 10**6},-1,-1\n", "column reward must be finite, but row 1 is inf"),
        (f"{HEADER}\n0,0,".encode() + b"\xff,-1,-1\n", "column reward must hold numbers, but row 1 is"),
        (f"{HEADER}\n0,0,1,-1,-1\n0,1,1,-1\n", r"row 2: Expected 5 columns, got 4"),
        ("Episode,step,reward,log_pi,log_mu\n", "column episode is missing; .*; is 'Episode' meant?"),
        ("episode, step,reward,log_pi,log_mu\n", "column step is missing; .*; is ' step' meant?"),
    ],
)
def test_a_bad_csv_is_refused_in_a_short_line(tmp_path, content, message):
    path = tmp_path / "log.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=message) as error:
        read_log(path)
    assert len(str(error.value)) <= 270
    assert str(error.value).isprintable()


def zipped(path, *, flags=0, method=0, checksum=None, reward=None):
    """An NPZ whose headers say what they should not."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, x in good().items():
            file = io.BytesIO()
            np.lib.format.write_array(file, x)
            archive.writestr(f"{name}.npy", reward if name == "reward" and reward else file.getvalue())
    content = bytearray(path.read_bytes())
    for mark, shift in ((b"PK\3\4", 0), (b"PK\1\2", 2)):
        at = content.find(mark)
        while at >= 0:
            struct.pack_into("<HH", content, at + 6 + shift, flags, method)
            if checksum is not None:
                struct.pack_into("<I", content, at + 14 + shift, checksum)
            at = content.find(mark, at + 1)
    path.write_bytes(content)
    return path


def claiming(shape, descr="<f8"):
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + np.ones(5).tobytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"flags": 1}, "is encrypted, password required"),
        ({"method": 99}, "compression method is not supported"),
        ({"checksum": 1}, "Bad CRC-32 for file 'episode.npy'"),
        ({"reward": claiming((10**18,))}, "at most 134,217,728 rows, but it claims to hold 1,000,000,000,000,000,000"),
        ({"reward": claiming((-5,))}, "column reward must be as long as its header says, but it has 40 bytes for -5"),
        ({"reward": claiming((2**32, 2**32))}, r"column reward must be \[rows\], but its shape is \[4294967296, "),
        ({"reward": claiming("(5,")}, "not an NPZ file that can be read"),
        ({"reward": claiming((4,))}, "has 40 bytes for 4 numbers of type float64"),
        ({"reward": claiming((5,), "<U200000000")}, "each row has 800,000,000 bytes"),
        ({"reward": b"1, 2, 3, 4, 5"}, "not an NPZ file that can be read"),
    ],
)
def test_a_damaged_or_encrypted_npz_is_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message) as error:
        read_log(zipped(tmp_path / "log.npz", **options))
    assert "\n" not in str(error.value)


def test_places_that_hold_no_file_are_named_for_what_they_are(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    for name, target in (("nowhere.csv", "missing"), ("loop.csv", "loop.csv"), ("zero.csv", "/dev/zero")):
        (tmp_path / name).symlink_to(target)
    for name, message in {
        "pipe.csv": "pipe.csv is a named pipe, not a log.",
        "nowhere.csv": "nowhere.csv is a link to what is not there.",
        "loop.csv": "loop.csv cannot be read: Too many levels of symbolic links.",
        "zero.csv": "zero.csv is a device, not a log.",
        "a" * 300 + ".csv": "cannot be read: File name too long.",
    }.items():
        with pytest.raises(ValueError, match=f"{message}$") as error:
            read_log(tmp_path / name)
        assert len(str(error.value)) <= 270


@EACH_FORMAT
def test_a_name_that_is_no_text_is_a_name(tmp_path, suffix):
    path = write(tmp_path / f"log{suffix}", good()).rename(tmp_path / os.fsdecode(b"\xff\xfe" + suffix.encode()))
    assert read_log(path).r_t.shape == (3, 2)
    with pytest.raises(ValueError, match=r"\\udcff.* is missing"):
        read_log(path.with_stem(path.stem + "x"))
