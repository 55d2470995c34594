//! Bytes of a socket to WebSocket messages (RFC 6455), as a client.
//!
//! - [`frames`]: frames without a socket: bytes in, messages out in place;
//! - [`handshake`], [`http`], [`url`], [`proxy`]: the way to an open connection, without a socket;
//! - [`tls`]: which authorities are trusted, and decryption straight from a read or by the kernel;
//! - [`connection`]: the [`WebSocket`] that an event loop drives, over [`transport`];
//! - [`fetch`]: HTTP replies for the loops, on a thread of its own;
//! - [`blocking`]: a client without a loop, for tools and tests;
//! - [`error`]: how a connection ends.

pub mod blocking;
pub mod connection;
pub mod error;
pub mod fetch;
pub mod frames;
pub mod handshake;
pub mod http;
pub mod proxy;
pub mod tls;
mod transport;
pub mod url;

pub use connection::{Options, Ready, WebSocket};
pub use error::{Cause, Phase, WireError};
pub use fetch::{FetchOptions, FetchPort, FetchReply, FetchRequest, Fetcher, Shorten};
pub use frames::{FrameError, FrameReader, Limits, Message};
pub use proxy::Proxy;
pub use tls::{Encryption, KernelSupport, KernelTls, Tls};
pub use url::Url;
