//! Core errors as the classes of `tickplant.errors`.

use pyo3::prelude::*;
use pyo3::types::PyDict;
use tickplant_core::log::LogError;

/// An exception of `tickplant.errors` with what, where and hint cut from "what, where; hint".
pub fn raise(class: &str, what: &str) -> PyErr {
    Python::attach(|py| {
        let made = py.import("tickplant.errors").and_then(|module| {
            let (what, hint) = what.split_once(": ").unwrap_or((what, ""));
            let keywords = PyDict::new(py);
            keywords.set_item("hint", hint)?;
            module.getattr(class)?.call((what,), Some(&keywords))
        });
        match made {
            Ok(error) => PyErr::from_value(error),
            Err(error) => error,
        }
    })
}

pub fn log_error(error: &LogError) -> PyErr {
    let class = match error {
        LogError::InUse { .. } => "LaneLocked",
        LogError::NewerVersion { .. } => "LogVersionError",
        LogError::NotALog { .. } => "LogMissing",
        LogError::Full { .. } => "DiskFull",
        LogError::Damaged { .. } => "LogCorrupt",
        LogError::Io { error, .. } if error.raw_os_error() == Some(28) => "DiskFull",
        _ => "LogError",
    };
    raise(class, &error.to_string())
}
