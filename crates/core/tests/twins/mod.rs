//! What property tests and fuzz targets share.
#![allow(dead_code)]

pub mod book;
pub mod decode;
pub mod frames;
pub mod handshake;
pub mod tape;
