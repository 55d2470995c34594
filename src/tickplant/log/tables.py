"""Batches as Arrow, Polars and pandas tables. The libraries are imported when first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, NamedTuple

from tickplant.errors import MissingExtra
from tickplant.records import UNDEF_I64, arrow_type

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import polars as pl
    import pyarrow as pa

    from tickplant._native import Batch


def _require(package: str) -> Any:
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise MissingExtra(package) from None


def to_arrow(batch: Batch, *, decimals: bool = False, floats: bool = False, names: bool = False) -> pa.RecordBatch:
    """The batch as columns, transposed once by native code.

    Columns are the record's fields: times as `timestamp[ns, UTC]`, numbers exact as integer mantissa with their scale
    column, absent values null. `decimals` adds a `decimal128` column `<name>_decimal` beside each number, at the
    largest scale of the batch; `floats` adds the nearest double as `<name>_float`; `names` adds `instrument`, a
    dictionary column.

    Raises:
        ValueError: `decimals` was asked for and a value needs more than 38 digits at the common scale.
        MissingExtra: pyarrow is not installed.
    """
    pa = _require("pyarrow")
    arrays: list[Any] = []
    fields: list[Any] = []
    for name, ty, values, validity, nulls in batch.columns(decimals=decimals, floats=floats):
        column_type = _column_type(pa, name, ty)
        buffers = [None if validity is None else pa.py_buffer(validity), pa.py_buffer(values)]
        arrays.append(pa.Array.from_buffers(column_type, len(batch), buffers, null_count=nulls))
        fields.append(pa.field(name, column_type, nullable=ty[-1] == "8" or ty.startswith("decimal")))
    if names:
        arrays.append(_instruments(pa, batch, arrays, fields))
        fields.append(pa.field("instrument", arrays[-1].type))
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))


class Exact(NamedTuple):
    """Numbers of a batch at one scale per instrument: the value is `mantissas / 10 ** scales[instrument_id]`."""

    mantissas: np.ndarray[Any, np.dtype[np.int64]]
    """One a row; `UNDEF_I64` where the value is absent."""
    scales: dict[int, int]
    """By instrument id: the largest scale that stood on the wire in this batch."""


def exact(batch: Batch, field: str) -> Exact:
    """The numbers of `field` (`price` or `size`) as integers that can be compared and summed within an instrument.

    Raises:
        ValueError: the rows have no such number, or one does not fit in 63 bits at its instrument's scale.
    """
    import numpy as np

    rows = batch.to_numpy()
    names = rows.dtype.names or ()
    if field not in names or f"{field}_scale" not in names or "instrument_id" not in names:
        raise ValueError(f"rows of {batch.schema} have no {field} with a scale of its own")
    ids, inverse = np.unique(rows["instrument_id"], return_inverse=True)
    given = rows[field] != UNDEF_I64
    largest = np.zeros(len(ids), np.int64)
    np.maximum.at(largest, inverse[given], rows[f"{field}_scale"][given])
    steps = np.where(given, largest[inverse] - rows[f"{field}_scale"], 0)
    # Beyond 18 digits no factor fits; zero is the only number that could take it.
    factors = 10 ** np.minimum(steps, 18)
    mantissas = np.where(given, rows[field], 0)
    if ((np.abs(mantissas) > (UNDEF_I64 - 1) // factors) | ((steps > 18) & (mantissas != 0))).any():
        raise ValueError(
            f"{field}: a number does not fit in 63 bits at its instrument's scale: read mantissa and scale"
        )
    scales = dict(zip(ids.tolist(), largest.tolist(), strict=True))
    return Exact(np.where(given, mantissas * factors, UNDEF_I64), scales)


def _column_type(pa: Any, name: str, ty: str) -> Any:
    if ty == "f8":
        return pa.float64()
    if ty.startswith("decimal:"):
        return pa.decimal128(38, int(ty.removeprefix("decimal:")))
    return arrow_type(name, ty)


def _instruments(pa: Any, batch: Batch, arrays: list[Any], fields: list[Any]) -> Any:
    ids = next((array for array, field in zip(arrays, fields, strict=True) if field.name == "instrument_id"), None)
    if ids is None:
        return pa.DictionaryArray.from_arrays(pa.nulls(len(batch), pa.int32()), pa.array([], pa.string()))
    encoded = ids.dictionary_encode()
    words = [batch.instrument(number) for number in encoded.dictionary.to_pylist()]
    return pa.DictionaryArray.from_arrays(encoded.indices, pa.array(words, pa.string()))


def to_polars(batch: Batch, *, decimals: bool = False, floats: bool = False, names: bool = False) -> pl.DataFrame:
    """The columns of `to_arrow` as a Polars frame, without a further copy where the types allow it."""
    polars = _require("polars")
    frame: pl.DataFrame = polars.from_arrow(to_arrow(batch, decimals=decimals, floats=floats, names=names))
    return frame


def to_df(batch: Batch, *, decimals: bool = False, floats: bool = False, names: bool = False) -> pd.DataFrame:
    """The columns of `to_arrow` as a pandas frame; 64-bit columns are pandas' nullable integers, never floats."""
    pandas, pa = _require("pandas"), _require("pyarrow")
    table = to_arrow(batch, decimals=decimals, floats=floats, names=names)
    nullable = {pa.int64(): pandas.Int64Dtype(), pa.uint64(): pandas.UInt64Dtype()}
    frame: pd.DataFrame = table.to_pandas(types_mapper=nullable.get)
    return frame
