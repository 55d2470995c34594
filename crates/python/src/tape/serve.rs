//! The replay server of tapes for Python: started with JSON, asked for JSON, stopped.

use crate::errors::raise;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use std::sync::Mutex;
use tickplant_core::tape::serve::{Options, Server};

/// A running replay server; its threads need no interpreter.
#[pyclass(frozen, module = "tickplant._native")]
pub struct TapeServer {
    server: Mutex<Server>,
}

#[pymethods]
impl TapeServer {
    /// Loads the tape and listens. `options`: JSON, see `Options` of the core.
    #[new]
    fn new(py: Python<'_>, options: &[u8]) -> PyResult<Self> {
        let options: Options =
            serde_json::from_slice(options).map_err(|error| PyValueError::new_err(error.to_string()))?;
        let server = py.detach(|| Server::start(&options)).map_err(|what| raise("ConfigError", &what))?;
        Ok(Self { server: Mutex::new(server) })
    }

    #[getter]
    fn port(&self) -> u16 {
        self.lock().address().port()
    }

    /// What each client was sent, as a JSON array.
    fn clients(&self) -> PyResult<String> {
        serde_json::to_string(&self.lock().clients()).map_err(|error| PyValueError::new_err(error.to_string()))
    }

    /// Ends all connections and waits for the threads. A second call does nothing.
    fn stop(&self, py: Python<'_>) {
        py.detach(|| self.lock().stop());
    }
}

impl TapeServer {
    fn lock(&self) -> std::sync::MutexGuard<'_, Server> {
        self.server.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
