"""NPZ: an array a column. The sizes that headers claim are checked before anything is unpacked."""

import zipfile
from typing import IO

import numpy as np

from isjax.ope.readers.reading import MOST_BYTES, Choose, Columns, check_rows, parsing

NPZ = "an NPZ file"


def read_npz(file: IO[bytes], choose: Choose) -> Columns:
    """The arrays of an NPZ file.

    Raises:
      ValueError: it is none, it is encrypted or damaged, or an array is not `[rows]`.
    """
    if file.read(2) != b"PK":
        raise ValueError(f"it is not {NPZ}.")
    with parsing(NPZ):
        archive = zipfile.ZipFile(file)
    with archive:
        entries = archive.infolist()
        names = [entry.filename.removesuffix(".npy") for entry in entries]
        return {name: _array(name, archive, entries[names.index(name)]) for name in choose(names)}


def _array(name: str, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> np.ndarray:
    with parsing(NPZ):
        data = archive.open(entry)
    with data:
        with parsing(NPZ):
            version = np.lib.format.read_magic(data)
            read_header = "read_array_header_1_0" if version == (1, 0) else "read_array_header_2_0"
            shape, _, dtype = getattr(np.lib.format, read_header)(data)
            start = data.tell()
        if dtype.hasobject:
            raise ValueError(f"column {name} must hold numbers, but it holds objects, which are not unpickled.")
        if len(shape) != 1:
            raise ValueError(f"column {name} must be [rows], but its shape is {list(shape)}.")
        check_rows(shape[0])
        size = shape[0] * dtype.itemsize
        if size > MOST_BYTES:
            raise ValueError(f"column {name} must hold numbers, but each row has {dtype.itemsize:,} bytes.")
        if entry.file_size != start + size:
            found = f"it has {entry.file_size - start:,} bytes for {shape[0]:,} numbers of type {dtype}"
            raise ValueError(f"column {name} must be as long as its header says, but {found}.")
        with parsing(NPZ):  # To the end, where the checksum is compared.
            return np.frombuffer(data.read(), dtype)
