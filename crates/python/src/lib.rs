//! `tickplant._native`: exports of tickplant-core, nothing else.

use pyo3::prelude::*;

mod batch;
mod book;
mod decode;
mod errors;
mod log;
mod plant;
mod records;
mod tape;
mod user_venue;
mod views;
mod wire;

/// The Python side of the border as this module was built with it; a package with another one is refused.
const STUB: &[u8] = include_bytes!("../../../src/tickplant/_native.pyi");

#[pymodule]
mod _native {
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::batch::columns::Buffer;
    #[pymodule_export]
    use crate::batch::{layouts, vocabularies, Batch, BatchIterator};
    #[pymodule_export]
    use crate::book::{BookFeed, PyBook, PyOrderBook};
    #[pymodule_export]
    use crate::decode::{Decoder, LevelBook};
    #[pymodule_export]
    use crate::log::directory::{LogDirectory, PyCheckpointer};
    #[pymodule_export]
    use crate::log::leftovers::{hot_dirs, remove_hot_dir};
    #[pymodule_export]
    use crate::log::reader::Reader;
    #[pymodule_export]
    use crate::log::waiter::Doorbell;
    #[pymodule_export]
    use crate::log::writer::PyLaneWriter;
    #[pymodule_export]
    use crate::plant::measure::ReplayBench;
    #[pymodule_export]
    use crate::plant::simulate::PyVirtualLoop;
    #[pymodule_export]
    use crate::plant::{rebuild, Importer, LogHandle, PyLoop};
    #[pymodule_export]
    use crate::tape::lane::TapeShard;
    #[pymodule_export]
    use crate::tape::serve::TapeServer;
    #[pymodule_export]
    use crate::tape::TapeRouter;
    #[pymodule_export]
    use crate::views::Mbp;
    #[pymodule_export]
    use crate::wire::{http_get, WebSocketClient};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.py().import("tickplant.border")?.call_method1("check", (crate::STUB,))?;
        crate::records::register(module)?;
        module.add("THROWN_AWAY", tickplant_core::log::THROWN_AWAY)?;
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
