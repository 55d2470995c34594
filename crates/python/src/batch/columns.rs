//! Rows to columns: one pass over blocks that stay in the first cache, each column gathered in turn.

use super::fill_buffer;
use super::table::{Table, TableField};
use crate::records::words::{decimal_text, field_bits};
use pyo3::ffi;
use pyo3::prelude::*;
use std::os::raw::c_int;
use tickplant_core::record::{FieldType, UNDEF_I64, UNDEF_U64};

/// Rows of a block: 256 records are 16 KiB.
const BLOCK_ROWS: usize = 256;
/// Digits that a decimal128 can hold.
const DECIMAL_DIGITS: u32 = 38;

/// Column memory that Python reads through the buffer protocol.
#[pyclass(frozen, module = "tickplant._native", name = "ColumnBuffer")]
pub struct Buffer {
    words: Vec<u64>,
    length: usize,
}

impl Buffer {
    fn zeroed(length: usize) -> Self {
        Self { words: vec![0; length.div_ceil(8)], length }
    }

    fn bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.words)[..self.length]
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.words)[..self.length]
    }
}

#[pymethods]
impl Buffer {
    fn __len__(&self) -> usize {
        self.length
    }

    /// # Safety
    /// Called by Python only, with a valid `view`.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let bytes = slf.get().bytes();
        // SAFETY: the buffer is frozen, so its bytes live and stay while it lives.
        unsafe { fill_buffer(slf.as_any(), view, flags, bytes) }
    }
}

/// One column: its name and type, its values, and which of them are there (None: all).
#[derive(IntoPyObject)]
pub struct Column(String, String, Buffer, Option<Buffer>, usize);

struct Gathering<'a> {
    field: &'a TableField,
    values: Buffer,
    validity: Option<Buffer>,
    nulls: usize,
}

/// The instrument id at `offset` of a row.
pub fn id_at(row: &[u8], offset: usize) -> u32 {
    field_bits(row, FieldType::U32, offset) as u32
}

fn is_undef(ty: FieldType, bits: u64) -> bool {
    match ty {
        FieldType::U64 => bits == UNDEF_U64,
        FieldType::I64 => bits as i64 == UNDEF_I64,
        _ => false,
    }
}

/// All columns of `rows`; with `decimals` and `floats` each number gets a `<name>_decimal` and `<name>_float` beside it.
/// The message of an error says which column cannot be given so.
pub fn transpose(table: &Table, rows: &[u8], decimals: bool, floats: bool) -> Result<Vec<Column>, String> {
    let count = rows.len() / table.row_bytes;
    let mut gatherings: Vec<_> = table.fields.iter().map(|field| Gathering::new(field, count)).collect();
    for (block, chunk) in rows.chunks(BLOCK_ROWS * table.row_bytes).enumerate() {
        for gathering in &mut gatherings {
            gathering.take(block * BLOCK_ROWS, chunk, table.row_bytes);
        }
    }
    let mut columns = Vec::new();
    for Gathering { field, values, validity, nulls } in gatherings {
        let extras = match field.scale_offset {
            Some(scale) if decimals || floats => extra_columns(field, scale, table.row_bytes, rows, decimals, floats)?,
            _ => Vec::new(),
        };
        columns.push(Column(
            field.name.clone(),
            field.ty.numpy().to_owned(),
            values,
            validity.filter(|_| nulls > 0),
            nulls,
        ));
        columns.extend(extras);
    }
    Ok(columns)
}

impl<'a> Gathering<'a> {
    fn new(field: &'a TableField, count: usize) -> Self {
        let wide = matches!(field.ty, FieldType::U64 | FieldType::I64);
        let validity = wide.then(|| Buffer::zeroed(count.div_ceil(8)));
        Self { field, values: Buffer::zeroed(count * field.ty.bytes()), validity, nulls: 0 }
    }

    fn take(&mut self, start: usize, rows: &[u8], row_bytes: usize) {
        match self.field.ty.bytes() {
            1 => gather::<1>(rows, row_bytes, self.field.offset, &mut self.values.bytes_mut()[start..]),
            2 => gather::<2>(rows, row_bytes, self.field.offset, &mut self.values.bytes_mut()[start * 2..]),
            4 => gather::<4>(rows, row_bytes, self.field.offset, &mut self.values.bytes_mut()[start * 4..]),
            _ => gather::<8>(rows, row_bytes, self.field.offset, &mut self.values.bytes_mut()[start * 8..]),
        }
        let Some(validity) = &mut self.validity else { return };
        let count = rows.len() / row_bytes;
        let bits = validity.bytes_mut();
        for (at, value) in self.values.words[start..start + count].iter().enumerate() {
            let undef = is_undef(self.field.ty, u64::from_le(*value));
            bits[(start + at) / 8] |= u8::from(!undef) << ((start + at) % 8);
            self.nulls += usize::from(undef);
        }
    }
}

fn gather<const WIDTH: usize>(rows: &[u8], row_bytes: usize, offset: usize, into: &mut [u8]) {
    for (row, out) in rows.chunks_exact(row_bytes).zip(into.chunks_exact_mut(WIDTH)) {
        out.copy_from_slice(&row[offset..offset + WIDTH]);
    }
}

fn extra_columns(
    field: &TableField,
    scale_offset: usize,
    row_bytes: usize,
    rows: &[u8],
    decimals: bool,
    floats: bool,
) -> Result<Vec<Column>, String> {
    let numbers: Vec<Option<(i64, u8)>> = rows
        .chunks_exact(row_bytes)
        .map(|row| {
            let mantissa = field_bits(row, field.ty, field.offset) as i64;
            (mantissa != UNDEF_I64).then(|| (mantissa, row[scale_offset]))
        })
        .collect();
    let mut columns = Vec::new();
    if decimals {
        columns.push(decimal_column(&field.name, &numbers)?);
    }
    if floats {
        let float = |number: &Option<(i64, u8)>| number.map_or(f64::NAN, |(mantissa, scale)| nearest(mantissa, scale));
        let values = numbers.iter().flat_map(|number| float(number).to_le_bytes()).collect::<Vec<u8>>();
        columns.push(nullable(format!("{}_float", field.name), "f8".to_owned(), &values, &numbers));
    }
    Ok(columns)
}

/// A decimal128 column at the largest scale that occurs, so that every value is exact.
fn decimal_column(name: &str, numbers: &[Option<(i64, u8)>]) -> Result<Column, String> {
    let common = numbers.iter().flatten().map(|&(_, scale)| scale).max().unwrap_or(0);
    let too_wide = || {
        format!("{name}: the values of this batch need more than {DECIMAL_DIGITS} digits at one scale; read the exact mantissa and scale columns")
    };
    let mut values = Vec::with_capacity(numbers.len() * 16);
    for number in numbers {
        let value = match *number {
            None => 0,
            Some((mantissa, scale)) => 10i128
                .checked_pow(u32::from(common - scale))
                .and_then(|factor| factor.checked_mul(i128::from(mantissa)))
                .filter(|value| {
                    u32::from(common) <= DECIMAL_DIGITS && value.unsigned_abs() < 10u128.pow(DECIMAL_DIGITS)
                })
                .ok_or_else(too_wide)?,
        };
        values.extend_from_slice(&value.to_le_bytes());
    }
    Ok(nullable(format!("{name}_decimal"), format!("decimal:{common}"), &values, numbers))
}

fn nullable(name: String, ty: String, values: &[u8], numbers: &[Option<(i64, u8)>]) -> Column {
    let mut held = Buffer::zeroed(values.len());
    held.bytes_mut().copy_from_slice(values);
    let mut validity = Buffer::zeroed(numbers.len().div_ceil(8));
    for (at, number) in numbers.iter().enumerate() {
        validity.bytes_mut()[at / 8] |= u8::from(number.is_some()) << (at % 8);
    }
    let nulls = numbers.iter().filter(|number| number.is_none()).count();
    Column(name, ty, held, Some(validity).filter(|_| nulls > 0), nulls)
}

/// The float nearest to the exact number. Division of two exact floats rounds once; larger numbers are read as text.
fn nearest(mantissa: i64, scale: u8) -> f64 {
    const EXACT_MOST: u64 = 1 << 53;
    const POWERS_EXACT: u8 = 22;
    if mantissa.unsigned_abs() <= EXACT_MOST && scale <= POWERS_EXACT {
        return mantissa as f64 / 10f64.powi(i32::from(scale));
    }
    decimal_text(mantissa, scale).and_then(|text| text.parse().ok()).unwrap_or(f64::NAN)
}
