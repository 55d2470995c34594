"""Batches: views, columns, filters."""

import gc
import subprocess
import sys
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tickplant import records
from tickplant._native import Batch
from tickplant.errors import MissingExtra
from tickplant.records import UNDEF_I64, UNDEF_U64, Level, Trade

NAMES = [(1, "BTC/USD.KRAKEN"), (2, "ETH/USD.KRAKEN")]


def trades(count: int) -> list[Trade]:
    return [
        Trade(
            ts_event=1_700_000_000_000_000_000 + at,
            ts_recv=at,
            price=1000 + at,
            price_scale=2,
            size=at,
            instrument_id=1 + at % 2,
        )
        for at in range(count)
    ]


def test_numpy_is_a_read_only_view_that_keeps_the_memory():
    batch = Batch.from_records(trades(1000))
    array = batch.to_numpy()
    assert array.dtype == records.dtype("trades")
    assert not array.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        array["price"][0] = 1
    with pytest.raises(ValueError, match="WRITEABLE"):
        array.flags.writeable = True
    assert array.__array_interface__["data"][0] == np.frombuffer(batch, "u1").__array_interface__["data"][0]
    expected = array.copy()
    del batch
    gc.collect()
    churn = [bytearray(64_000) for _ in range(100)]
    assert (array == expected).all()
    del churn


def test_objects_slices_and_bytes_agree():
    made = trades(10)
    batch = Batch.from_records(made, instruments=NAMES)
    assert list(batch) == made
    assert (batch.schema, batch.kind, len(batch)) == ("trades", records.Kind.TRADE, 10)
    assert batch[-1] == made[-1]
    assert list(batch[3:5]) == made[3:5]
    assert batch[3:5].first_index == 3
    assert bytes(batch[2:4]) == bytes(made[2]) + bytes(made[3])
    with pytest.raises(IndexError):
        batch[10]
    with pytest.raises(TypeError, match="one kind"):
        Batch.from_records([Trade(), Level()])
    with pytest.raises(ValueError, match="no whole rows"):
        Batch("trades", b"x" * 65)
    with pytest.raises(ValueError, match="no schema"):
        Batch("tades", b"")


def test_an_empty_batch_has_an_empty_array():
    empty = Batch("trades", b"")
    assert len(empty.to_numpy()) == len(list(empty)) == empty.to_arrow().num_rows == 0
    assert empty.to_numpy().dtype == records.dtype("trades")


def test_filters_gather_and_keep_the_batch_when_all_match():
    batch = Batch.from_records(trades(10), instruments=NAMES)
    assert [record.instrument_id for record in batch.filter("ETH/USD.KRAKEN")] == [2] * 5
    assert batch.filter(2).first_index == 1
    assert batch.filter(["BTC/USD.KRAKEN", 2]) is batch
    assert len(batch.filter("DOGE/USD.KRAKEN")) == 0


rows = st.lists(
    st.tuples(
        st.one_of(st.just(UNDEF_U64), st.integers(0, 2**62)),
        st.one_of(st.just(UNDEF_I64), st.integers(-(10**18), 10**18)),
        st.integers(0, 18),
        st.integers(1, 2),
    ),
    max_size=600,
)


@given(rows)
def test_arrow_columns_are_the_records(values):
    made = [
        Trade(ts_event=time, price=price, price_scale=scale, size=at, instrument_id=instrument)
        for at, (time, price, scale, instrument) in enumerate(values)
    ]
    data = b"".join(map(bytes, made))
    table = Batch("trades", data, instruments=NAMES).to_arrow(decimals=True, floats=True, names=True)
    table.validate(full=True)
    assert table.column("price").to_pylist() == [None if p == UNDEF_I64 else p for _, p, _, _ in values]
    assert table.column("ts_event").cast(pa.int64()).to_pylist() == [None if t == UNDEF_U64 else t for t, *_ in values]
    assert table.column("size").to_pylist() == list(range(len(values)))
    assert table.column("instrument").to_pylist() == [dict(NAMES)[instrument] for *_, instrument in values]
    exact = [None if p == UNDEF_I64 else Decimal(p).scaleb(-s) for _, p, s, _ in values]
    assert table.column("price_decimal").to_pylist() == exact
    assert table.column("price_float").to_pylist() == [None if value is None else float(value) for value in exact]


def test_the_exact_columns_have_the_agreed_schema():
    batch = Batch.from_records(trades(3))
    assert batch.to_arrow().schema == records.arrow_schema("trades")


def test_decimals_that_do_not_fit_are_refused_with_the_column():
    batch = Batch.from_records([Trade(price=10**18), Trade(price=1, price_scale=30)])
    with pytest.raises(ValueError, match=r"price: .* 38 digits"):
        batch.to_arrow(decimals=True)
    assert batch.to_arrow().column("price").to_pylist() == [10**18, 1]


@given(st.lists(st.tuples(st.integers(-(10**9), 10**9), st.integers(0, 8), st.integers(1, 2)), min_size=1, max_size=50))
def test_prices_have_one_scale_an_instrument(values):
    batch = Batch.from_records([Trade(price=p, price_scale=s, instrument_id=i) for p, s, i in values])
    mantissas, scales = batch.price
    for (price, scale, instrument), mantissa in zip(values, mantissas.tolist(), strict=True):
        assert Decimal(price).scaleb(-scale) == Decimal(mantissa).scaleb(-scales[instrument])
    assert scales == {i: max(s for _, s, other in values if other == i) for _, _, i in values}


def test_a_price_that_does_not_fit_is_refused():
    batch = Batch.from_records([Trade(price=10**18), Trade(price=1, price_scale=2), Trade()])
    with pytest.raises(ValueError, match="63 bits"):
        _ = batch.price
    assert Batch.from_records([Trade(), Trade(price=5, price_scale=30)]).price.mantissas.tolist() == [UNDEF_I64, 5]
    with pytest.raises(ValueError, match="no price"):
        _ = Batch.from_records([records.Status()]).price


def test_polars_and_pandas_keep_whole_numbers_whole():
    batch = Batch.from_records([Trade(sequence=2**63 + 1, price=1), Trade(price=UNDEF_I64)])
    polars = batch.to_polars()
    assert polars.schema["ts_event"] == pl.Datetime("ns", "UTC")
    assert polars["sequence"].to_list() == [2**63 + 1, None]
    pandas = batch.to_df()
    assert pandas["sequence"].tolist() == [2**63 + 1, pd.NA]
    assert pandas["price"].dtype == pd.Int64Dtype()


def test_a_missing_library_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "polars", None)
    batch = Batch.from_records(trades(1))
    with pytest.raises(MissingExtra, match=r"tickplant\[data\]"):
        batch.to_polars()


def test_importing_tickplant_imports_no_heavy_library():
    heavy = "('pyarrow', 'polars', 'pandas', 'duckdb')"
    code = f"import sys, tickplant, tickplant.records; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
