"""Tables: Parquet and CSV, both by way of Arrow."""

import csv
import io
import os
import re
from typing import IO, Any

import numpy as np

from isjax.ope.readers.reading import Choose, Columns, Kind, check_rows, parsing

PARQUET, CSV = "a Parquet file", "a CSV file"
BLOCK = 2**20
"""Bytes of a CSV that are parsed at a time, unless a cell is longer."""
OTHER_ENCODINGS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
"""By the first bytes of a file."""
INTEGER = re.compile(rb"\s*[+-]?[0-9]{1,40}\s*")
NUMBER = re.compile(rb"\s*[+-]?(([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?|inf|infinity|nan)\s*", re.IGNORECASE)

RAGGED = re.compile("Row #([0-9]+): (Expected [0-9]+ columns, got [0-9]+)")


def read_parquet(file: IO[bytes], choose: Choose) -> Columns:
    """The columns of a Parquet file.

    Raises:
      ValueError: it is none, it is encrypted or damaged, or a column holds what is not a number.
    """
    import pyarrow.parquet as pq

    with parsing(PARQUET):
        table = pq.ParquetFile(file)
        all_names, rows = table.schema_arrow.names, table.metadata.num_rows
    kinds = choose(all_names)
    check_rows(rows)
    with parsing(PARQUET):
        columns = table.read(columns=list(kinds))
    return {name: _as_array(name, columns[name], kind) for name, kind in kinds.items()}


def _as_array(name: str, column: Any, wanted: Kind) -> np.ndarray:
    """A column of Arrow's; absent numbers become NaN, text stays what it is."""
    import pyarrow as pa

    kind = column.type
    with parsing(PARQUET):
        if pa.types.is_dictionary(kind):
            return _as_array(name, column.cast(kind.value_type), wanted)
        if pa.types.is_null(kind):
            return np.full(len(column), np.nan)
        if pa.types.is_decimal(kind):
            try:
                column = column.cast(pa.int64())
            except pa.ArrowInvalid:  # not whole, or too large
                column = column.cast(pa.float64())
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    if pa.types.is_boolean(kind) and wanted == "label":
        column = column.cast(pa.int8())
    elif not (is_text or pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        raise ValueError(f"column {name} must hold numbers, but it holds {kind}.")
    return _as_numpy(column)


def _as_numpy(column: Any) -> np.ndarray:
    """A column in NumPy. Numbers that are all there go round pandas, which takes longer to load than most logs."""
    import pyarrow as pa

    is_number = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
    if not is_number or column.null_count or not column.num_chunks:
        return column.to_numpy()
    return np.concatenate([np.from_dlpack(chunk) for chunk in column.chunks])


def read_csv(file: IO[bytes], choose: Choose) -> Columns:
    """The columns of a CSV file in UTF-8 with a header; quoted cells may hold line breaks.

    Raises:
      ValueError: it is none, or a quotation mark is never closed.
    """
    import pyarrow as pa

    chosen = choose(_header(file))
    names_whole = [name for name, kind in chosen.items() if kind == "whole"]
    _check_quotes(file)
    for whole in (pa.int64(), pa.float64()):
        kinds = {"whole": whole, "number": pa.float64(), "label": pa.binary()}
        try:
            columns = _columns(file, {name: kinds[kind] for name, kind in chosen.items()})
        except pa.ArrowInvalid:  # Some cell is no such number.
            continue
        if whole == pa.int64() or all(np.all(np.abs(columns[name]) < 2**53) for name in names_whole):
            return {name: _text(x) if chosen[name] == "label" else x for name, x in columns.items()}
    with parsing(CSV):
        texts = _columns(file, dict.fromkeys(chosen, pa.binary()))
    return {name: _text(x) if chosen[name] == "label" else _numbers_or_text(x.tolist()) for name, x in texts.items()}


def _text(cells: np.ndarray) -> np.ndarray:
    """Cells of bytes as text; each distinct one is decoded once."""
    if not len(cells):
        return cells.astype(str)
    distinct, place = np.unique(cells.astype(bytes), return_inverse=True)
    return np.array([cell.decode(errors="backslashreplace") for cell in distinct.tolist()])[place]


def _header(file: IO[bytes]) -> list[str]:
    """The names of all columns."""
    encoding = OTHER_ENCODINGS.get(file.read(2))
    file.seek(0)
    if encoding:
        raise ValueError(f"it must be in UTF-8, but it is in {encoding}.")
    text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="backslashreplace", newline="")
    try:
        with parsing(CSV):
            names = next((row for row in csv.reader(text) if row), [])
    finally:
        text.detach()
    for separator in ";\t|":
        if len(names) == 1 and separator in names[0]:
            raise ValueError(f"columns must be separated by commas, but its header is {names[0]!r}.")
    return names


def _check_quotes(file: IO[bytes]) -> None:
    """Raises `ValueError` for quotation marks that do not fit: rows behind one that is never closed would vanish."""
    file.seek(0)
    if not any(b'"' in block for block in iter(lambda: file.read(BLOCK), b"")):
        return
    file.seek(0)
    text = io.TextIOWrapper(file, encoding="latin-1", newline="")
    before = csv.field_size_limit(2**31 - 1)
    try:
        with parsing(CSV):
            for _ in csv.reader(text, strict=True):
                pass
    finally:
        csv.field_size_limit(before)
        text.detach()


def _columns(file: IO[bytes], kinds: dict[str, Any]) -> Columns:
    """Columns of certain kinds.

    Raises:
      ValueError: a row has too few or too many cells.
      pyarrow.ArrowInvalid: a cell is not of its kind.
    """
    import pyarrow as pa
    from pyarrow.csv import ConvertOptions, ParseOptions, ReadOptions
    from pyarrow.csv import read_csv as read

    size = os.fstat(file.fileno()).st_size
    for block in (BLOCK, min(max(size + 1, BLOCK), 2**31 - 1)):
        file.seek(0)
        try:
            table = read(
                file,
                read_options=ReadOptions(block_size=block, use_threads=False),
                parse_options=ParseOptions(newlines_in_values=True),
                convert_options=ConvertOptions(column_types=kinds, include_columns=list(kinds)),
            )
            return {name: _as_numpy(table[name]) for name in kinds}
        except pa.ArrowException as error:
            if ragged := RAGGED.search(str(error)):
                reason = f"row {int(ragged[1]) - 1}: {ragged[2]}"  # Arrow counts the header.
                raise ValueError(f"it is not {CSV} that can be read ({reason}).") from error
            if "straddling" not in str(error):
                raise
    raise ValueError(f"it is not {CSV} that can be read (a cell is longer than {2**31 - 1:,} bytes).")


def _numbers_or_text(cells: list[bytes]) -> np.ndarray:
    """Whole numbers of any size, other numbers, or text if a cell is neither."""
    if all(INTEGER.fullmatch(cell) for cell in cells):
        return np.array([int(cell) for cell in cells], object)
    if all(NUMBER.fullmatch(cell) for cell in cells):
        return np.array([float(cell) for cell in cells])
    return np.array([cell.decode(errors="backslashreplace") for cell in cells], object)
