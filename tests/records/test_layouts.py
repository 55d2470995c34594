"""One definition of each layout: the Rust struct, the dtype, the Arrow schema and the record class are equal."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tickplant import _native, records

LAYOUTS = _native.layouts()
RAW = [layout for layout in LAYOUTS if layout[1] != 0 and layout[4]]
CLASSES = {
    cls.KIND: cls
    for cls in (
        records.Trade,
        records.Level,
        records.Quote,
        records.Status,
        records.Gap,
        records.Definition,
        records.Heartbeat,
        records.Coverage,
        records.StateHash,
    )
}


@pytest.mark.parametrize(
    ("schema", "_kind", "_layout", "row_bytes", "fields"), LAYOUTS, ids=lambda part: str(part)[:12]
)
def test_dtype_and_arrow_schema_are_the_native_layout(schema, _kind, _layout, row_bytes, fields):
    dtype = records.dtype(schema)
    assert dtype.itemsize == row_bytes
    if not fields:
        return
    assert list(dtype.names) == [name for name, _, _ in fields]
    for name, ty, offset in fields:
        assert dtype.fields[name] == (np.dtype(ty), offset)
    arrow = records.arrow_schema(schema)
    assert arrow.names == list(dtype.names)
    for field, (name, ty, _) in zip(arrow, fields, strict=True):
        expected = pa.timestamp("ns", tz="UTC") if name.startswith("ts_") else pa.from_numpy_dtype(np.dtype(ty))
        assert field.type == expected
        assert field.nullable == ty.endswith("8")


def test_raw_layouts_fill_64_bytes_and_every_kind_has_a_class():
    assert {kind for _, kind, *_ in RAW} == set(CLASSES)
    for _, kind, _, row_bytes, fields in RAW:
        assert row_bytes == records.RECORD_BYTES == sum(np.dtype(ty).itemsize for _, ty, _ in fields)
        assert CLASSES[kind].__match_args__ == tuple(name for name, _, _ in fields)


@pytest.mark.parametrize("layout", RAW, ids=lambda layout: layout[0])
def test_a_record_made_by_keywords_has_each_number_where_the_dtype_reads_it(layout):
    schema, kind, _, _, fields = layout
    numbers = {name: at + 1 for at, (name, _, _) in enumerate(fields)}
    record = CLASSES[kind](**numbers)
    row = np.frombuffer(bytes(record), records.dtype(schema))[0]
    for name, number in numbers.items():
        assert row[name] == number == getattr(record, name), name


@pytest.mark.parametrize("cls", CLASSES.values())
def test_what_is_not_given_is_absent(cls):
    row = np.frombuffer(bytes(cls()), records.dtype(_schema(cls)))[0]
    for name in row.dtype.names:
        if row.dtype[name] == np.uint64:
            assert row[name] == records.UNDEF_U64
        if row.dtype[name] == np.int64:
            assert row[name] == records.UNDEF_I64


def _schema(cls):
    return next(schema for schema, kind, *_ in LAYOUTS if kind == cls.KIND)


def test_python_enums_are_the_native_vocabularies():
    native = dict(_native.vocabularies())
    for name, words in native.items():
        enum = getattr(records, name)
        expected = {re.sub(r"(?<!^)(?=[A-Z])", "_", word).upper(): number for word, number in words}
        assert {member.name: int(member) for member in enum} == expected, name


FORGETFUL = """
from typing import assert_never
from tickplant.records import *

def describe(record: Record) -> str:
    match record:
        case Trade(price=price): return str(price)
        case Level() | Quote() | Status() | Gap() | Heartbeat() | Coverage() | StateHash(): return "other"
        {arm}
    assert_never(record)
"""


def test_mypy_finds_the_forgotten_kind_of_a_match(tmp_path: Path):
    def check(arm: str) -> subprocess.CompletedProcess[str]:
        sample = tmp_path / "sample.py"
        sample.write_text(FORGETFUL.format(arm=arm))
        config = Path(__file__).parents[2] / "pyproject.toml"
        command = [sys.executable, "-m", "mypy", "--config-file", str(config), str(sample)]
        return subprocess.run(command, cwd=config.parent, capture_output=True, text=True, check=False)

    forgotten = check("")
    assert forgotten.returncode == 1
    assert 'incompatible type "Definition"' in forgotten.stdout
    assert check("case Definition(): return 'definition'").returncode == 0
