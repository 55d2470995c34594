//! What a record's numbers mean: vocabularies as Python enums, exact decimals as text, instrument names.

use crate::batch::table::scale_field;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use tickplant_core::decimal::Decimal;
use tickplant_core::log::{LogDir, LogError, Registry};
use tickplant_core::record::{Field, FieldType, Kind, Layout, Subject, UNDEF_I64, UNDEF_U64};

/// Names of instruments by their registry id. Shared by all records of a reader; ids only ever gain a name.
#[derive(Debug, Default)]
pub struct Names {
    known: RwLock<Vec<Option<Arc<str>>>>,
    /// Where a name is looked up that is not known yet; None for names given by hand.
    registry: Option<Mutex<Registry>>,
}

/// Ids above this are not kept by name: a damaged record must not make us allocate for its number.
const ID_MOST: u32 = 1 << 24;

impl Names {
    /// Names of a log's registry, read again when an unknown id or name is asked for.
    pub fn of_log(log: &LogDir) -> Result<Self, LogError> {
        let names = Self { known: RwLock::default(), registry: Some(Mutex::new(Registry::open(log)?)) };
        names.refresh()?;
        Ok(names)
    }

    pub fn insert(&self, id: u32, name: &str) {
        let at = id as usize;
        if id > ID_MOST {
            return;
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() <= at {
            known.resize(at + 1, None);
        }
        known[at] = Some(Arc::from(name));
    }

    /// Takes what was assigned since.
    fn refresh(&self) -> Result<(), LogError> {
        let Some(registry) = &self.registry else { return Ok(()) };
        let mut registry = registry.lock().unwrap_or_else(PoisonError::into_inner);
        registry.refresh()?;
        let known = self.all().len();
        for (id, name) in registry.instruments().skip(known) {
            self.insert(id, name);
        }
        Ok(())
    }

    /// Every instrument that has a name, by id.
    pub fn all(&self) -> Vec<(u32, Arc<str>)> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.iter().enumerate().filter_map(|(id, name)| Some((id as u32, name.clone()?))).collect()
    }

    fn known(&self, id: u32) -> Option<Arc<str>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).get(id as usize).cloned().flatten()
    }

    /// The name of an id. 0 stands for no instrument, so it is not looked up. A registry that cannot be read gives no name.
    pub fn get(&self, id: u32) -> Option<Arc<str>> {
        self.known(id).or_else(|| {
            (id != 0).then(|| self.refresh().ok()).flatten()?;
            self.known(id)
        })
    }

    pub fn id_of(&self, name: &str) -> Option<u32> {
        let find = || {
            let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
            known.iter().position(|known| known.as_deref() == Some(name)).map(|at| at as u32)
        };
        find().or_else(|| {
            self.refresh().ok()?;
            find()
        })
    }
}

/// One vocabulary's Python members by number, read from `tickplant.records` at first use.
pub struct Vocabulary {
    name: &'static str,
    members: PyOnceLock<Py<PyDict>>,
}

macro_rules! vocabularies {
    ($($name:ident = $text:literal,)*) => {
        $(static $name: Vocabulary = Vocabulary { name: $text, members: PyOnceLock::new() };)*
    };
}

vocabularies! {
    ACTION = "Action",
    SIDE = "Side",
    BOOK_STATE = "BookState",
    CONNECTION_STATE = "ConnectionState",
    SUBSCRIPTION_STATE = "SubscriptionState",
    SUBJECT = "Subject",
    REASON = "Reason",
    STREAM = "Stream",
    QUALITY = "Quality",
    REPAIR = "Repair",
    RUNG = "Rung",
    TRADING_STATE = "TradingState",
}

impl Vocabulary {
    /// The member of a number; the number itself where this build does not know it (a newer writer's word).
    pub fn member<'py>(&self, py: Python<'py>, number: u64) -> PyResult<Bound<'py, PyAny>> {
        let members = self.members.get_or_try_init(py, || -> PyResult<Py<PyDict>> {
            let members = PyDict::new(py);
            for member in py.import("tickplant.records")?.getattr(self.name)?.try_iter()? {
                let member = member?;
                members.set_item(member.getattr("value")?, member)?;
            }
            Ok(members.unbind())
        })?;
        match members.bind(py).get_item(number)? {
            Some(member) => Ok(member),
            None => Ok(number.into_pyobject(py)?.into_any()),
        }
    }
}

impl Vocabulary {
    /// The word of a number (`LIVE`); the number itself where this build does not know it.
    pub fn word<'py>(&self, py: Python<'py>, number: u64) -> PyResult<Bound<'py, PyAny>> {
        let member = self.member(py, number)?;
        Ok(member.getattr_opt("name")?.unwrap_or(member))
    }
}

/// The vocabulary that a field's number belongs to. `subject` decides whose state `previous` and `current` are.
pub fn vocabulary(field: &str, subject: u8) -> Option<&'static Vocabulary> {
    Some(match field {
        "action" => &ACTION,
        "side" => &SIDE,
        "state" => &BOOK_STATE,
        "subject" => &SUBJECT,
        "reason" | "cause" => &REASON,
        "stream" => &STREAM,
        "quality" => &QUALITY,
        "repaired_from" => &REPAIR,
        "previous" | "current" => match Subject::from_number(subject)? {
            Subject::Connection => &CONNECTION_STATE,
            Subject::Book => &BOOK_STATE,
            Subject::Subscription => &SUBSCRIPTION_STATE,
            Subject::Recovery => &RUNG,
            Subject::Trading => &TRADING_STATE,
            _ => return None,
        },
        _ => return None,
    })
}

/// A mantissa and its scale as plain decimal text; None for UNDEF.
pub fn decimal_text(mantissa: i64, scale: u8) -> Option<String> {
    (mantissa != UNDEF_I64).then(|| Decimal::new(mantissa, scale).to_string())
}

/// The number of a field, zero-extended (a signed field keeps its bits). A row shorter than the field gives 0.
pub fn field_bits(row: &[u8], ty: FieldType, offset: usize) -> u64 {
    let mut wide = [0u8; 8];
    if let Some(bytes) = row.get(offset..offset + ty.bytes()) {
        wide[..bytes.len()].copy_from_slice(bytes);
    }
    u64::from_le_bytes(wide)
}

fn named<'a>(layout: &'a Layout, name: &str) -> Option<&'a Field> {
    layout.fields.iter().find(|field| field.name == name)
}

/// A field of a record by its name; 0 where the layout has none of that name.
pub fn value(layout: &Layout, row: &[u8], name: &str) -> u64 {
    named(layout, name).map_or(0, |field| field_bits(row, field.ty, field.offset))
}

/// One field as people and JSON read it: names, decimal texts, words; None for UNDEF. None outside: not to be shown.
fn shown<'py>(
    py: Python<'py>,
    layout: &Layout,
    row: &[u8],
    field: &Field,
    names: Option<&Names>,
) -> PyResult<Option<(&'static str, Bound<'py, PyAny>)>> {
    let bits = field_bits(row, field.ty, field.offset);
    let none = || py.None().into_bound(py);
    let shown = match field.name {
        "price_scale" | "size_scale" if layout.kind != Kind::Definition && layout.kind != Kind::StateHash => {
            return Ok(None)
        }
        name if name.starts_with("reserved") => return Ok(None),
        "instrument_id" => match names.and_then(|names| names.get(bits as u32)) {
            Some(name) => return Ok(Some(("instrument", name.as_ref().into_pyobject(py)?.into_any()))),
            None => bits.into_pyobject(py)?.into_any(),
        },
        "action" | "side" => char::from(bits as u8).into_pyobject(py)?.into_any(),
        name => match (scale_field(name), vocabulary(name, value(layout, row, "subject") as u8)) {
            (Some(scale), _) => {
                decimal_text(bits as i64, value(layout, row, scale) as u8).into_pyobject(py)?.into_any()
            }
            (None, Some(words)) => words.word(py, bits)?,
            (None, None) => match field.ty {
                FieldType::U64 if bits == UNDEF_U64 => none(),
                FieldType::I64 if bits as i64 == UNDEF_I64 => none(),
                FieldType::I64 => (bits as i64).into_pyobject(py)?.into_any(),
                _ => bits.into_pyobject(py)?.into_any(),
            },
        },
    };
    Ok(Some((field.name, shown)))
}

/// A record as a dict in the field's words: Databento's names and letters, numbers as exact decimal text, absent as None.
pub fn as_dict<'py>(
    py: Python<'py>,
    layout: &Layout,
    row: &[u8],
    names: Option<&Names>,
) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for field in layout.fields {
        if let Some((name, shown)) = shown(py, layout, row, field, names)? {
            dict.set_item(name, shown)?;
        }
    }
    Ok(dict)
}

/// `Trade(ts_event=.., price=0.10, ..)`: what is absent or zero is left out.
pub fn describe(py: Python<'_>, layout: &Layout, row: &[u8], names: Option<&Names>) -> PyResult<String> {
    let mut parts = Vec::new();
    for field in layout.fields {
        if let Some((name, shown)) = shown(py, layout, row, field, names)? {
            if shown.is_truthy()? && !(name == "state" && field_bits(row, field.ty, field.offset) == 0) {
                parts.push(format!("{name}={}", shown.str()?));
            }
        }
    }
    Ok(format!("{:?}({})", layout.kind, parts.join(", ")))
}
