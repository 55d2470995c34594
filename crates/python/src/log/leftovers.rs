//! Memory files of logs that are gone, for `tickplant doctor`.

use crate::errors::log_error;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use std::path::PathBuf;
use tickplant_core::log;

/// The memory files of every log below a hot root, as JSON: a list of path, bytes, log and owner.
#[pyfunction]
pub fn hot_dirs(root: PathBuf) -> PyResult<String> {
    let found = log::hot_dirs(&root).map_err(|error| log_error(&error))?;
    serde_json::to_string(&found).map_err(|error| PyValueError::new_err(error.to_string()))
}

/// Removes the memory files of a log that is gone. False: they are not of one, and stay.
#[pyfunction]
pub fn remove_hot_dir(path: PathBuf) -> PyResult<bool> {
    log::remove_hot_dir(&path).map_err(|error| log_error(&error))
}
