//! Core errors as the classes of `tickplant.errors`.

use pyo3::prelude::*;
use tickplant_core::log::{LogError, ReadError};

/// An exception of `tickplant.errors`, its attributes set by `fill`.
pub fn raise_with(
    py: Python<'_>,
    class: &str,
    what: &str,
    fill: impl FnOnce(&Bound<'_, PyAny>) -> PyResult<()>,
) -> PyErr {
    let build = || {
        let instance = py.import("tickplant.errors")?.getattr(class)?.call1((what,))?;
        fill(&instance)?;
        Ok(instance)
    };
    build().map_or_else(|error| error, PyErr::from_value)
}

/// An exception of `tickplant.errors` from the core's "what: what to do".
pub fn raise(class: &str, text: &str) -> PyErr {
    let (what, hint) = text.split_once(": ").unwrap_or((text, ""));
    raise_two(class, what, hint)
}

/// An exception of `tickplant.errors` from what happened and what to do.
pub fn raise_two(class: &str, what: &str, hint: &str) -> PyErr {
    Python::attach(|py| raise_with(py, class, what, |instance| instance.setattr("hint", hint)))
}

/// As [`raise`], with the place.
pub fn raise_at(class: &str, place: &str, text: &str) -> PyErr {
    let (what, hint) = text.split_once(": ").unwrap_or((text, ""));
    Python::attach(|py| {
        raise_with(py, class, what, |instance| {
            instance.setattr("hint", hint)?;
            instance.setattr("where", place)
        })
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

/// A read error of a lane; `path` is the log's directory.
pub fn read_error(path: &str, lane: &str, error: &ReadError) -> PyErr {
    match error {
        ReadError::Lost { first, last } => Python::attach(|py| {
            let build = || {
                let lost = py.import("tickplant.errors")?.getattr("LostRecords")?.call1((lane, *first, *last))?;
                lost.setattr("where", path)?;
                Ok(lost)
            };
            build().map_or_else(|error| error, PyErr::from_value)
        }),
        ReadError::Log(error) => log_error(error),
        error => raise_at("LogError", &format!("{path} lane {lane}"), &error.to_string()),
    }
}
