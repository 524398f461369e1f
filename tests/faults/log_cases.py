"""Logs that are malformed, odd or unusual, and what each of them means."""

import contextlib
import datetime
import io
import os
import socket
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

EPISODES, STEPS = 12, 3
ROWS = EPISODES * STEPS
WANTED = ("episode", "step", "reward", "log_pi", "log_mu")
EACH_FORMAT = (".csv", ".npz", ".parquet")

Columns = dict[str, Any]


class Case(NamedTuple):
    """A log, and what is to be expected of it."""

    name: str
    write: Callable[[Path], Path]
    """Writes into a folder, and gives the path that the command is called with."""
    expected: Columns | None
    """The columns that it means; None if it has to be refused."""
    is_either: bool = False
    """Whether it may be refused or read; the values are then those of another reader."""


def cases(seed: int = 0) -> Iterator[Case]:
    """All cases; those of damage follow from the seed."""
    rng = np.random.default_rng(seed)
    for suffix in EACH_FORMAT:
        yield from _with_another_meaning(suffix, rng)
        yield from _with_the_same_meaning(suffix, rng)
        yield from _without_meaning(suffix, rng)
        yield from _damaged(suffix, rng)
    yield from _texts(rng)
    yield from _archives(rng)
    yield from _tables(rng)
    yield from _places()


def good() -> Columns:
    """A log that is as it has to be."""
    rng = np.random.default_rng(1)
    return {
        "episode": np.repeat(np.arange(EPISODES), STEPS),
        "step": np.tile(np.arange(STEPS), EPISODES),
        "reward": rng.normal(size=ROWS),
        "log_pi": np.log(rng.uniform(0.2, 0.9, ROWS)),
        "log_mu": np.log(rng.uniform(0.2, 0.9, ROWS)),
    }


def _with(**changes: Any) -> Columns:
    return {name: x for name, x in (good() | changes).items() if x is not None}


def _changed(name: str, row: int, value: Any, kind: Any = None) -> Columns:
    x = good()[name]
    x = x.astype(kind or (object if isinstance(value, str) else x.dtype))
    x[row] = value
    return _with(**{name: x})


def _written(columns: Columns, suffix: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        path = folder / f"log{suffix}"
        if suffix == ".npz":
            np.savez(path, **{name: _plain(x) for name, x in columns.items()})
        elif suffix == ".parquet":
            pq.write_table(
                pa.table({name: x if isinstance(x, pa.Array) else pa.array(_plain(x)) for name, x in columns.items()}),
                path,
            )
        else:
            path.write_text(_text(columns))
        return path

    return write


def _plain(x: Any) -> np.ndarray:
    """Columns of mixed objects become text, as a table would hold them."""
    x = np.asarray(x)
    return x.astype(str) if x.dtype == object else x


def _text(columns: Columns, *, separator: str = ",", end: str = "\n") -> str:
    rows = [list(columns), *zip(*(_cells(x) for x in columns.values()), strict=True)]
    return "".join(separator.join(row) + end for row in rows)


def _cells(x: Any) -> list[str]:
    return [repr(value) if isinstance(value, float) else str(value) for value in np.asarray(x).tolist()]


def _with_another_meaning(suffix: str, rng: np.random.Generator) -> Iterator[Case]:
    """Columns of other numbers: the values are those of plain NumPy on them."""
    log = good()
    for scale in (1e-40, 1e-300, 1e-45, 1e39, 1e300, 1e8, -1.0, 0.0):
        columns = _with(reward=log["reward"] * scale)
        yield Case(f"{suffix} rewards of size {scale:g}", _written(columns, suffix), columns)
    for first in (2**53, -(2**53) - EPISODES, 2**62, -(2**63), 2**24):
        columns = _with(episode=log["episode"] + first)
        yield Case(f"{suffix} episodes from {first}", _written(columns, suffix), columns)
    columns = _with(episode=log["episode"].astype(np.uint64) + np.uint64(2**64 - EPISODES))
    yield Case(f"{suffix} episodes up to 2^64", _written(columns, suffix), columns)
    columns = _with(log_pi=log["log_mu"] - 1e-12 * rng.random(ROWS))
    yield Case(f"{suffix} policies nearly alike", _written(columns, suffix), columns)
    columns = _with(reward=1e16 + log["reward"] * 1e3)
    yield Case(f"{suffix} rewards far from 0", _written(columns, suffix), columns)
    for _ in range(3):
        row = int(rng.integers(ROWS))
        columns = _changed("log_pi", row, -np.inf)
        yield Case(f"{suffix} row {row} impossible under the target", _written(columns, suffix), columns)
        columns = _changed("reward", row, float(rng.normal() * 1e3))
        yield Case(f"{suffix} another reward in row {row}", _written(columns, suffix), columns)
    columns = _with(reward=rng.integers(-(2**40), 2**40, ROWS))
    yield Case(f"{suffix} whole rewards", _written(columns, suffix), columns)
    columns = _with(log_pi=np.full(ROWS, -np.inf))
    yield Case(f"{suffix} no weight at all", _written(columns, suffix), None, is_either=True)


def _with_the_same_meaning(suffix: str, rng: np.random.Generator) -> Iterator[Case]:
    log = good()
    for i in range(3):
        order = rng.permutation(ROWS)
        yield Case(f"{suffix} shuffled {i}", _written({name: x[order] for name, x in log.items()}, suffix), log)
    names = list(rng.permutation(WANTED))
    yield Case(f"{suffix} other order of columns", _written({name: log[name] for name in names}, suffix), log)
    extra = {"note": np.array([f"é {i}" for i in range(ROWS)]), "Reward": np.zeros(ROWS), "": np.zeros(ROWS)}
    yield Case(f"{suffix} other columns", _written(extra | log, suffix), log)
    for kind in (np.int8, np.uint16, np.float64, np.float32):
        columns = _with(episode=log["episode"].astype(kind), step=log["step"].astype(kind))
        yield Case(f"{suffix} {np.dtype(kind).name} episodes", _written(columns, suffix), log)
    columns = {name: np.asarray(x, np.float32) for name, x in log.items()}
    meant = {name: np.asarray(x, np.float64) for name, x in columns.items()}
    if suffix != ".csv":
        yield Case(f"{suffix} float32", _written(columns, suffix), meant)


def _without_meaning(suffix: str, rng: np.random.Generator) -> Iterator[Case]:
    """Columns that have to be refused."""

    def refused(name: str, columns: Columns) -> Case:
        return Case(f"{suffix} {name}", _written(columns, suffix), None)

    for name in WANTED:
        row = int(rng.integers(ROWS))
        if name in ("episode", "step"):  # The rows are in order: what is missing follows from it.
            yield Case(f"{suffix} without {name}", _written(_with(**{name: None}), suffix), good())
        else:
            yield refused(f"without {name}", _with(**{name: None}))
        yield refused(f"{name} missing in row {row}", _changed(name, row, np.nan, float))
        yield refused(f"{name} infinite in row {row}", _changed(name, row, np.inf, float))
        yield refused(f"{name} is text in row {row}", _changed(name, row, "x"))
        yield refused(f"{name} is an essay in row {row}", _changed(name, row, "x" * 5000))
        near = {(name.title() + "s" if old == name else old): x for old, x in good().items()}
        yield refused(f"{name} by another name", near)
    for name in ("episode", "step"):
        yield refused(f"{name} not whole", _changed(name, int(rng.integers(ROWS)), 0.5, float))
    yield refused("episodes beyond what floats hold", _with(episode=good()["episode"] + 2.0**53))
    for value in (2**31, 2**40, 2**62, -1, -(2**40)):
        yield refused(f"step {value}", _changed("step", int(rng.integers(ROWS)), value))
    yield refused("a step twice", _changed("step", 1, 0))
    yield refused("one episode", _with(episode=np.zeros(ROWS, int)))
    for name in ("log_pi", "log_mu"):
        yield refused(f"{name} positive", _changed(name, int(rng.integers(ROWS)), 0.3))
        yield refused(f"{name} probabilities", _with(**{name: np.exp(good()[name])}))
    yield refused("impossible under the policy that acted", _changed("log_mu", int(rng.integers(ROWS)), -np.inf))
    yield refused("q without v", _with(q=np.zeros(ROWS)))
    yield refused("v without q", _with(v=np.zeros(ROWS)))
    yield refused("no rows", {name: x[:0] for name, x in good().items()})
    yield refused("no columns but one", {"note": np.zeros(ROWS)})
    yield refused("many other columns", {f"column {i} of many": np.zeros(ROWS) for i in range(200)})


def _damaged(suffix: str, rng: np.random.Generator) -> Iterator[Case]:
    """Bytes cut off or changed: refused, or what another reader makes of it."""

    def damaged(name: str, change: Callable[[bytearray], bytearray]) -> Case:
        def write(folder: Path) -> Path:
            path = _written(good(), suffix)(folder)
            path.write_bytes(change(bytearray(path.read_bytes())))
            return path

        return Case(f"{suffix} {name}", write, None, is_either=True)

    for share in rng.random(8):
        yield damaged(f"cut at {share:.3f}", lambda content, share=share: content[: int(share * len(content))])
    for share, value in zip(rng.random(12), rng.integers(0, 256, 12), strict=True):

        def flip(content: bytearray, share: float = share, value: int = int(value)) -> bytearray:
            content[int(share * len(content))] = value
            return content

        yield damaged(f"byte {value} at {share:.3f}", flip)
    yield damaged("zeros in its middle", lambda x: x[: len(x) // 3] + bytearray(64) + x[len(x) // 3 + 64 :])
    yield damaged("twice in a row", lambda x: x + x)
    yield damaged("a line before it", lambda x: bytearray(b"# a remark\n") + x)


def _texts(rng: np.random.Generator) -> Iterator[Case]:
    """What is particular to CSV."""
    log, text = good(), _text(good())
    lines = text.splitlines()

    def case(name: str, content: str | bytes, expected: Columns | None = None) -> Case:
        def write(folder: Path) -> Path:
            path = folder / "log.csv"
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
            return path

        return Case(f"csv {name}", write, expected)

    def noted(notes: list[str]) -> str:
        return "note," + lines[0] + "\n" + "".join(f"{x},{y}\n" for x, y in zip(notes, lines[1:], strict=True))

    yield case("line ends of DOS", text.replace("\n", "\r\n"), log)
    yield case("line ends of old", text.replace("\n", "\r"), log)
    yield case("byte order mark", b"\xef\xbb\xbf" + text.encode(), log)
    yield case("no line end at the end", text.rstrip("\n"), log)
    yield case("blank lines", text.replace("\n", "\n\n"), log)
    yield case("blank first line", "\n" + text, log)
    yield case("quoted cells", "".join(",".join(f'"{x}"' for x in y.split(",")) + "\n" for y in lines), log)
    yield case("spaces around numbers", lines[0] + "\n" + "\n".join(lines[1:]).replace(",", " , "), log)
    yield case("signs", "\n".join([lines[0], *(f"+{x}" for x in lines[1:])]), log)
    yield case("quoted line breaks", noted([f'"a\nb, ""c"" {i}\n"' for i in range(ROWS)]), log)
    yield case("megabytes of quoted line breaks", noted(['"' + "ab\n,\n" * 20_000 + '"'] * ROWS), log)
    yield case("a cell of megabytes", noted(["y" * 3_000_000] + ["x"] * (ROWS - 1)), log)
    yield case("a quoted cell of megabytes", noted(['"' + "y\n" * 2_000_000 + '"'] + ["x"] * (ROWS - 1)), log)
    yield case("inches", noted(['5" nails'] * ROWS), log)
    yield case("another encoding in another column", noted(["\xff"] * ROWS).encode("latin-1"), log)
    yield case("another encoding in the header", noted(["x"] * ROWS).replace("note", "n\xf6te").encode("latin-1"), log)
    ids = [f"{x.replace(',', '.0,', 1)}" for x in lines[1:]]
    yield case("episodes with a point", "\n".join([lines[0], *ids]), log)
    large = _with(episode=[str(2**53 + int(x)) for x in log["episode"]])
    meant = _with(episode=log["episode"] + 2**53)
    large["step"] = [f"{x}.0" for x in log["step"]]
    yield case("large episodes beside steps with a point", _text(large), meant)

    for name, cell in {
        "nothing": "", "NA": "NA", "nan": "nan", "NULL": "NULL", "inf": "inf", "beyond floats": "1e999",
        "hexadecimal": "0x1F", "thousands": '"1,234.5"', "underscore": "1_000", "decimal comma": '"0,5"',
        "unit": "1.5abc", "dollars": "$3", "percent": "50%", "true": "True", "date": "2024-01-01",
        "minus sign": "\u2212" "1", "other digits": "\u0661", "zero byte": "1\x002", "quote inside": '"1"5',
        "text": "'1'", "escape": "\x1b[31m", "fraction": "1/2", "million digits": "9" * 1_000_000,
        "a megabyte": "z" * 2_000_000, "two numbers": "1 2", "list": '"[1, 2]"',
    }.items():  # fmt: skip
        row = int(rng.integers(1, ROWS + 1))
        cells = lines[row].split(",")
        cells[2] = cell
        yield case(f"{name} for a reward", "\n".join([*lines[:row], ",".join(cells), *lines[row + 1 :]]))
    yield case("bytes for a reward", text.encode().replace(lines[4].split(",")[2].encode(), b"\xff\xfe", 1))
    for separator in ";\t|":
        yield case(f"separated by {separator!r}", text.replace(",", separator))
    yield case("UTF-16", text.encode("utf-16"))
    yield case("UTF-16 without a mark", text.encode("utf-16-le"))
    yield case("UTF-32", text.encode("utf-32"))
    yield case("empty", b"")
    yield case("spaces", b"   \n  ")
    yield case("header alone", lines[0])
    yield case("no header", "\n".join(lines[1:]))
    yield case("a column twice", text.replace("log_mu", "reward"))
    yield case("zeros", b"\0" * 1000)
    yield case("a picture", b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20)
    for row in rng.integers(1, ROWS, 3):
        yield case(f"row {row} too short", "\n".join([*lines[:row], lines[row].rpartition(",")[0], *lines[row + 1 :]]))
        yield case(f"row {row} too long", "\n".join([*lines[:row], lines[row] + ",1", *lines[row + 1 :]]))
    yield case("a quote never closed", noted(['"open', *["x"] * (ROWS - 1)]))
    last = "\n".join(
        [lines[0] + ",note", *(f"{x},y" for x in lines[1:4]), f'{lines[4]},"open', *(f"{x},y" for x in lines[5:])]
    )
    yield case("a quote never closed in the last column", last)
    two = "\n".join(
        [
            lines[0] + ",note",
            f'{lines[1]},5" nails',
            *(f"{x},y" for x in lines[2:4]),
            f'{lines[4]},"open',
            *(f"{x},y" for x in lines[5:]),
        ]
    )
    yield case("a quote never closed behind another one", two)


def _archives(rng: np.random.Generator) -> Iterator[Case]:
    """What is particular to NPZ."""
    log = good()

    def zipped(
        name: str,
        expected: Columns | None = None,
        *,
        method: int = zipfile.ZIP_STORED,
        change: Any = None,
        **entries: bytes,
    ) -> Case:
        def write(folder: Path) -> Path:
            path = folder / "log.npz"
            with zipfile.ZipFile(path, "w", method) as archive:
                for column, x in log.items():
                    archive.writestr(f"{column}.npy", entries.get(column, _npy(x)))
            if change:
                path.write_bytes(change(bytearray(path.read_bytes())))
            return path

        return Case(f"npz {name}", write, expected)

    def arrays(name: str, expected: Columns | None = None, **changes: Any) -> Case:
        return Case(f"npz {name}", _written_as_they_are(_with(**changes)), expected)

    for method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        yield zipped(f"compressed by method {method}", log, method=method)
    for version in ((2, 0), (3, 0)):
        yield zipped(f"format {version}", log, reward=_npy(log["reward"], version))
    yield arrays("big-endian", log, **{name: x.astype(x.dtype.newbyteorder(">")) for name, x in log.items()})
    yield arrays("strided", log, reward=np.repeat(log["reward"], 2)[::2])
    half = log["reward"].astype(np.float16)
    yield arrays("float16", _with(reward=half.astype(float)), reward=half)
    yield arrays("long doubles", log, reward=log["reward"].astype(np.longdouble))
    wide = np.longdouble(10) ** -4000 * log["reward"].astype(np.longdouble)
    if np.any(wide != 0):
        yield arrays("long doubles too small for doubles", reward=wide)
        yield arrays("long doubles too large for doubles", reward=1 / np.where(wide == 0, 1, wide))
    yield arrays("float16 episodes beyond 2^11", episode=(2048.0 + 2 * log["episode"]).astype(np.float16))
    yield arrays("float32 episodes beyond 2^24", episode=(2.0**24 + 2 * log["episode"]).astype(np.float32))
    for name, x in {
        "complex": log["reward"] + 0j, "booleans": log["reward"] > 0, "text": log["reward"].astype(str),
        "bytes": log["reward"].astype("S"), "dates": log["episode"].astype("M8[s]"),
        "durations": log["episode"].astype("m8[s]"), "objects": log["reward"].astype(object),
        "records": np.zeros(ROWS, [("a", float), ("b", int)]), "a scalar": np.float64(1.0),
        "a matrix": log["reward"][:, None], "a Fortran matrix": np.asfortranarray(np.ones((ROWS, 2))),
        "too short": log["reward"][:-1], "too long": np.zeros(ROWS + 1), "void": np.zeros(ROWS, "V8"),
        "nothing": np.zeros(0), "two rows of it": np.zeros((2, ROWS)),
    }.items():  # fmt: skip
        yield arrays(f"{name} for rewards", reward=x)
        yield arrays(f"{name} for episodes", episode=x)
    for shape in (
        "(1000000000000000000,)",
        "(-36,)",
        "(36.5,)",
        "(4294967296, 4294967296)",
        "()",
        "(36,",
        "(36, 1)",
        "('a',)",
        "(2147483647,)",
        "(True,)",
        "(0,)",
        "(35,)",
        "(37,)",
        "None",
        "[36]",
    ):
        yield zipped(f"shape {shape}", reward=_npy_claiming(log["reward"], shape))
    for descr in (
        "'<f8000'",
        "'|O'",
        "'<U100000000'",
        "'nonsense'",
        "[('a', '<f8')]",
        "12",
        "'<c16'",
        "'<f4'",
        "'|V0'",
    ):
        yield zipped(f"type {descr}", reward=_npy_claiming(log["reward"], f"({ROWS},)", descr))
    yield zipped("bytes behind an array", reward=_npy(log["reward"]) + b"behind")
    yield zipped("no array", reward=b"1, 2, 3")
    yield zipped("an empty entry", reward=b"")
    yield zipped(
        "a bomb", method=zipfile.ZIP_DEFLATED, reward=_npy_claiming(np.zeros(1), "(5000000,)") + bytes(100_000_000)
    )

    def everywhere(place: int, value: int, width: str) -> Callable[[bytearray], bytearray]:
        """Sets a field of every local header and of every entry of the directory."""

        def change(content: bytearray) -> bytearray:
            for mark, offset in ((b"PK\3\4", place), (b"PK\1\2", place + 2)):
                at = content.find(mark)
                while at >= 0:
                    struct.pack_into(width, content, at + offset, value)
                    at = content.find(mark, at + 1)
            return content

        return change

    yield zipped("encrypted", change=everywhere(6, 1, "<H"))
    yield zipped("strongly encrypted", change=everywhere(6, 65, "<H"))
    for method in (1, 9, 12, 14, 93, 95, 98, 99):
        yield zipped(f"claiming method {method}", change=everywhere(8, method, "<H"))
    yield zipped("wrong checksums", change=everywhere(14, 12345, "<I"))
    for size in (0, 100, 2**31):
        yield zipped(f"claiming {size} bytes", change=everywhere(22, size, "<I"))

    def twice(folder: Path) -> Path:
        path = zipped("").write(folder)
        with zipfile.ZipFile(path, "a") as archive, warnings.catch_warnings(action="ignore"):
            archive.writestr("reward", _npy(log["reward"]))
        return path

    yield Case("npz a column twice", twice, None)


def _written_as_they_are(columns: Columns) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        np.savez(folder / "log.npz", **columns)
        return folder / "log.npz"

    return write


def _npy(x: np.ndarray, version: tuple[int, int] = (1, 0)) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, x, version)
    return file.getvalue()


def _npy_claiming(x: np.ndarray, shape: str, descr: str = "'<f8'") -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + x.tobytes()


def _tables(rng: np.random.Generator) -> Iterator[Case]:
    """What is particular to Parquet."""
    log = good()

    def table(name: str, expected: Columns | None = None, *, options: Any = None, **changes: Any) -> Case:
        def write(folder: Path) -> Path:
            columns = {column: x if isinstance(x, pa.Array) else pa.array(x) for column, x in _with(**changes).items()}
            pq.write_table(pa.table(columns), folder / "log.parquet", **(options or {}))
            return folder / "log.parquet"

        return Case(f"parquet {name}", write, expected)

    for codec in ("none", "snappy", "gzip", "zstd", "brotli", "lz4"):
        yield table(f"by {codec}", log, options={"compression": codec})
    for version in ("1.0", "2.4", "2.6"):
        yield table(f"version {version}", log, options={"version": version, "data_page_version": "2.0"})
    yield table("row groups of 5", log, options={"row_group_size": 5})
    yield table("without dictionaries", log, options={"use_dictionary": False})
    yield table(
        "dictionaries of numbers",
        log,
        episode=pa.array(log["episode"]).dictionary_encode(),
        reward=pa.array(log["reward"]).dictionary_encode(),
    )
    cents = [Decimal(int(100 * x)) / 100 for x in log["reward"]]
    yield table("decimals", _with(reward=[float(x) for x in cents]), reward=pa.array(cents, pa.decimal128(20, 2)))
    many = [Decimal(2**53 + int(x)) for x in log["episode"]]
    yield table("decimal episodes", _with(episode=log["episode"] + 2**53), episode=pa.array(many, pa.decimal128(30, 0)))
    yield table("decimal episodes beyond 64 bits", episode=pa.array([x + 10**25 for x in many], pa.decimal128(38, 0)))
    yield table(
        "decimal episodes not whole", episode=pa.array([x + Decimal("0.5") for x in many], pa.decimal128(38, 1))
    )
    half = log["reward"].astype(np.float16)
    yield table("float16", _with(reward=half.astype(float)), reward=half)
    yield table("nested other columns", log, other=pa.array([{"reward": [1, 2]}] * ROWS))
    for name, x in {
        "lists": pa.array([[1.0]] * ROWS), "records": pa.array([{"reward": 1.0}] * ROWS),
        "text": pa.array(["1.0"] * ROWS), "large text": pa.array(["1.0"] * ROWS, pa.large_string()),
        "booleans": pa.array([True] * ROWS), "bytes": pa.array([b"1"] * ROWS),
        "dates": pa.array([datetime.date(2024, 1, 1)] * ROWS),
        "times": pa.array([datetime.datetime(2024, 1, 1)] * ROWS),
        "durations": pa.array([datetime.timedelta(1)] * ROWS), "nulls": pa.nulls(ROWS),
        "categories": pa.array(["1"] * ROWS).dictionary_encode(),
        "maps": pa.array([[("a", 1.0)]] * ROWS, pa.map_(pa.string(), pa.float64())),
        "one null": pa.array([None, *np.arange(1, ROWS)]),
        "fixed bytes": pa.array([b"12345678"] * ROWS, pa.binary(8)), "long names": pa.array([{"x" * 900: 1}] * ROWS),
    }.items():  # fmt: skip
        yield table(f"{name} for rewards", reward=x)
        yield table(f"{name} for episodes", episode=x)

    def changed(name: str, change: Callable[[bytes], bytes]) -> Case:
        def write(folder: Path) -> Path:
            path = table("").write(folder)
            path.write_bytes(change(path.read_bytes()))
            return path

        return Case(f"parquet {name}", write, None)

    yield changed("encrypted footer", lambda x: b"PARE" + x[4:-4] + b"PARE")
    yield changed("no footer", lambda x: x[:-8])
    yield changed("footer too long", lambda x: x[:-8] + struct.pack("<I", 2**31 - 1) + b"PAR1")
    yield changed("footer of nothing", lambda x: x[:-8] + struct.pack("<I", 0) + b"PAR1")
    yield changed("marks alone", lambda x: b"PAR1PAR1")
    yield changed("an empty file", lambda x: b"")
    yield changed("a CSV", lambda x: _text(log).encode())


def _places() -> Iterator[Case]:
    """Paths that are no ordinary file, and names of every kind."""
    log = good()

    def refused(name: str, write: Callable[[Path], Any]) -> Case:
        return Case(f"path {name}", lambda folder: Path(write(folder) or folder / "log.csv"), None)

    def as_link(target: Any) -> Callable[[Path], None]:
        return lambda folder: os.symlink(target, folder / "log.csv")

    def bound(folder: Path) -> None:
        with contextlib.chdir(folder), contextlib.closing(socket.socket(socket.AF_UNIX)) as other:
            other.bind("log.csv")

    yield refused("a named pipe", lambda folder: os.mkfifo(folder / "log.csv"))
    yield refused("a folder", lambda folder: (folder / "log.csv").mkdir())
    yield refused("a socket", bound)
    for target in ("nowhere", "log.csv", "/dev/null", "/dev/zero", "/dev/full", "/", "/proc/self/mem"):
        yield refused(f"a link to {target}", as_link(target))
    yield refused("missing", lambda folder: None)
    yield refused("in a missing folder", lambda folder: folder / "none" / "log.csv")
    yield refused("below a file", lambda folder: _written(log, ".csv")(folder) / "log.csv")
    yield refused("a name of 300 letters", lambda folder: folder / ("x" * 300 + ".csv"))
    yield refused("a path of 6,000 letters", lambda folder: folder / "/".join(["x" * 200] * 30) / "log.csv")
    yield refused("a name with a line break", lambda folder: folder / "a\nb.csv")
    yield refused("a name with an escape", lambda folder: folder / "\x1b[31m.csv")
    yield refused("a zero byte", lambda folder: folder / "a\0b.csv")
    yield refused("another suffix", lambda folder: _written(log, ".csv")(folder).rename(folder / "log.tsv"))
    yield refused("no suffix", lambda folder: _written(log, ".csv")(folder).rename(folder / "log"))
    yield refused("bytes that are no text, missing", lambda folder: folder / os.fsdecode(b"\xff\xfe.csv"))

    def renamed(suffix: str, name: bytes | str) -> Case:
        return Case(
            f"path named {name!r}",
            lambda folder: _written(log, suffix)(folder).rename(folder / os.fsdecode(name)),
            log,
        )

    for suffix in EACH_FORMAT:
        yield renamed(suffix, b"\xff\xfe" + suffix.encode())
        yield renamed(suffix, "episode=3 — a  b\n" + suffix)
        yield renamed(suffix, "LOG" + suffix.upper())
        yield renamed(suffix, "[bold]x" + "y" * 200 + suffix)
    yield Case("path a link", lambda folder: _linked(_written(log, ".csv")(folder)), log)


def _linked(path: Path) -> Path:
    link = path.with_name("link.csv")
    link.symlink_to(path)
    return link
