"""Recorded history from files, as arrays: NPZ, JSON lines, CSV and Parquet. One format a reader, no science.

=========  =====================================================================================================
``.npz``   arrays ``X`` (n, D), ``y`` (n,) labels, optional ``t`` (n,) times; never pickled objects
``.jsonl`` one object a line (also ``.ndjson``, ``.json``)
``.csv``   a header line, then one row a record
``.parquet`` needs the extra ``narrows[parquet]``
=========  =====================================================================================================

In the last three, a configured stream's schema says where features, label and time are. Without one they are guessed:
label is the first of ``label``, ``y``, ``class``, ``target``; time the first of ``t``, ``ts``, ``time``, ``timestamp``,
``event_time``; features are ``features``, ``x`` or ``X`` where that is an array, else every other column that is a
number, in order, except ``id``.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from monitor.data_tables import read_csv, read_json_lines, read_parquet
from monitor.errors import UsageError
from monitor.recorded import Recorded, labels_of
from monitor.settings_streams import RecordSchema

#: Larger files are refused: arrays of this size still train on a machine of 16 GB, and a slip (a year of raw data
#: instead of a sample) is answered at once instead of by the kernel.
MAX_BYTES: Final = 4 * 1024**3


def read_data_file(path: Path, *, schema: RecordSchema | None = None, max_bytes: int = MAX_BYTES) -> Recorded:
    """Read a data file whole.

    Args:
        path: The file; its ending says the format.
        schema: Where the parts of a record are; guessed when None. NPZ has fixed names and ignores it.
        max_bytes: Largest size of the file, and of its arrays.

    Raises:
        UsageError: It cannot be read or used; the message says what, where and how to mend it.
    """
    size = _size_of(path)
    if size > max_bytes:
        sizes = f"{size / 2**20:,.0f} MiB are more than the {max_bytes / 2**20:,.0f} MiB"
        raise UsageError(f"{path}: {sizes} that are read at once. Take a sample.")
    try:
        recorded = _reader_for(path)(path, schema, max_bytes)
    except (OSError, UnicodeDecodeError, MemoryError) as error:
        raise UsageError(f"{path}: cannot be read: {error}.") from error
    return _checked(replace(recorded, name=path.name), path=path)


def _size_of(path: Path) -> int:
    try:
        if not path.is_file():
            raise UsageError(f"{path}: there is no such file.")
        return path.stat().st_size
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}.") from error


Reader = Callable[[Path, RecordSchema | None, int], Recorded]


def _reader_for(path: Path) -> Reader:
    readers: dict[str, Reader] = {
        ".npz": _read_npz,
        ".jsonl": read_json_lines,
        ".ndjson": read_json_lines,
        ".json": read_json_lines,
        ".csv": read_csv,
        ".parquet": read_parquet,
    }
    try:
        return readers[path.suffix.lower()]
    except KeyError:
        raise UsageError(f"{path}: unknown kind of file. There is: {', '.join(readers)}.") from None


def _read_npz(path: Path, schema: RecordSchema | None, max_bytes: int) -> Recorded:
    del schema  # the names in an NPZ file are fixed
    try:
        with np.load(path, allow_pickle=False) as arrays:
            unpacked = sum(member.file_size for member in zipfile.ZipFile(path).infolist())
            if unpacked > max_bytes:
                raise UsageError(f"{path}: its arrays are larger than {max_bytes / 2**20:,.0f} MiB. Take a sample.")
            if "X" not in arrays:
                raise UsageError(
                    f"{path}: has no array X (it has {', '.join(arrays) or 'none'}). Save X, y and maybe t."
                )
            x = arrays["X"]
            y = arrays["y"] if "y" in arrays else np.full(len(x), "")
            t = arrays.get("t")
    except (ValueError, zipfile.BadZipFile, EOFError, KeyError) as error:
        raise UsageError(f"{path}: not a usable NPZ file: {error}. Save it by numpy.savez, without objects.") from error
    return Recorded(_number_matrix(x, path=path), labels_of(y), _times(t, path=path), path.name)


def _number_matrix(x: NDArray[np.generic], *, path: Path) -> NDArray[np.float32]:
    if x.ndim < 2 or not (np.issubdtype(x.dtype, np.number) or x.dtype == np.bool_):
        raise UsageError(f"{path}: X is {x.dtype} of shape {x.shape}; it must be numbers, one row a record: (n, D).")
    with np.errstate(over="ignore"):  # too large becomes infinite, and that is refused with its row and column
        return x.reshape(len(x), math.prod(x.shape[1:])).astype(np.float32)


def _times(t: NDArray[np.generic] | None, *, path: Path) -> NDArray[np.float64] | None:
    if t is None:
        return None
    if np.issubdtype(t.dtype, np.datetime64):
        return (t.astype("datetime64[us]") - np.datetime64(0, "us")) / np.timedelta64(1, "s")
    if not np.issubdtype(t.dtype, np.number):
        raise UsageError(f"{path}: t is {t.dtype}; it must be numbers or datetime64.")
    return t.astype(np.float64)


def _checked(recorded: Recorded, *, path: Path) -> Recorded:
    """The rows, if arrays agree in length and features are finite."""
    n = len(recorded)
    if n == 0 or recorded.dimension == 0:
        raise UsageError(f"{path}: has no rows or no features.")
    for name, array in (("y (the labels)", recorded.labels), ("t (the times)", recorded.t)):
        if array is not None and array.shape != (n,):
            raise UsageError(f"{path}: {name} has shape {array.shape}, but there are {n} rows: it must be ({n},).")
    bad = ~np.isfinite(recorded.x)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        n_bad = int(bad.any(axis=1).sum())
        raise UsageError(
            f"{path}: feature {column} of row {row} is not a finite number, and {n_bad} of {n} rows have such ones "
            f"(rows and features counted from 0). Fill or remove them."
        )
    return recorded
