//! The replay server: a saved or a synthetic tape to any number of clients, as Polygon's feed serves its own.
//!
//! Each client gets the whole tape from its own first trade on, on a thread of its own; with `one_market` it joins where
//! the market is. A slow client is paced by TCP: it gets everything, late. What each was sent is counted exactly, with a
//! checksum that does not depend on order, so that whoever receives can prove that nothing is missing.

mod ahead;
mod client;
mod dialect;
pub mod pace;
mod source;
mod transport;
mod wire;

pub use client::Account;
pub use source::{Saved, Source, Synthetic};

use crate::clock::Nanos;
use ahead::Ahead;
use client::Client;
use pace::Pace;
use serde::{Deserialize, Serialize};
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use transport::Transport;

/// Trades a frame where nothing else says it.
const FRAME_TRADES: u64 = 128;
const FRAME_TRADES_MOST: u64 = 1024;

/// What to serve and how. `None` and `false` are the defaults.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// `ip:port`; port 0 takes a free one.
    pub address: String,
    /// A saved tape; without one, a synthetic market of so many symbols from a seed.
    pub file: Option<PathBuf>,
    pub symbols: u64,
    pub seed: u64,
    /// Ends after so many trades a client.
    pub trades: Option<u64>,
    /// See [`Pace::parse`].
    pub rate: String,
    pub speed: u64,
    /// Trades a frame; without it saved frames, or frames that grow with the rate.
    pub per_frame: Option<u64>,
    /// The only key that is let in.
    pub key: Option<String>,
    pub max_connections: Option<u64>,
    /// Data flows from the connection on, without login and subscription.
    pub no_handshake: bool,
    pub one_market: bool,
    /// The whole tape is rendered into memory before the server listens.
    pub ahead: bool,
    /// Closes the connection after the last trade, where otherwise it stays, silent.
    pub close: bool,
    /// Synthetic trades carry the wall-clock time in ns at which they were due.
    pub stamp: bool,
    /// A PEM file with key and certificate: TLS.
    pub certificate: Option<PathBuf>,
}

/// What the clients' threads share.
struct Shared {
    source: Source,
    pace: Pace,
    /// The number after the last trade.
    end: u64,
    frame_trades: Option<u64>,
    key: Option<String>,
    max_connections: Option<u64>,
    handshake: bool,
    one_market: bool,
    close: bool,
    stamp: bool,
    ahead: Option<Ahead>,
    tls: Option<Arc<rustls::ServerConfig>>,
    stop: AtomicBool,
    connected: AtomicU64,
    furthest: AtomicU64,
    market: OnceLock<Nanos>,
}

impl Shared {
    fn new(options: &Options) -> Result<Self, String> {
        let source = match &options.file {
            Some(path) => Source::Saved(Saved::read(path)?),
            None => Source::Synthetic(Synthetic::new(options.symbols, options.seed)),
        };
        let mut shared = Self {
            end: options.trades.unwrap_or(u64::MAX).min(source.count().unwrap_or(u64::MAX)),
            source,
            pace: Pace::parse(&options.rate, options.speed)?,
            frame_trades: options.per_frame.filter(|&size| size > 0),
            key: options.key.clone(),
            max_connections: options.max_connections,
            handshake: !options.no_handshake,
            one_market: options.one_market,
            close: options.close,
            stamp: options.stamp,
            ahead: None,
            tls: options.certificate.as_deref().map(transport::tls_config).transpose()?,
            stop: AtomicBool::new(false),
            connected: AtomicU64::new(0),
            furthest: AtomicU64::new(0),
            market: OnceLock::new(),
        };
        if options.ahead {
            let may =
                matches!(shared.pace, Pace::Max) && shared.end < u64::MAX && !shared.handshake && shared.tls.is_none();
            if !may || shared.stamp || shared.one_market {
                return Err(
                    "a tape can be rendered ahead where all of it goes out at once as it is: give --rate max, \
                            --trades and --no-handshake, and neither --tls, --stamp nor --one-market"
                        .into(),
                );
            }
            shared.ahead = Some(Ahead::new(&shared)?);
        }
        Ok(shared)
    }

    /// The frame that begins with trade `next`: the number after its last trade, and when it is due, in ns since the start.
    fn frame(&self, next: u64) -> (u64, Nanos) {
        let size = self.frame_trades.unwrap_or(0);
        let saved = self.source.frame_end(next).filter(|_| size == 0);
        let (end, due) = match (&self.pace, saved) {
            (Pace::Max, Some(end)) => (end, 0),
            (Pace::Max, None) => (next + if size == 0 { FRAME_TRADES } else { size }, 0),
            (Pace::Paced(profile), Some(end)) => profile.frame(next, end - next),
            (Pace::Paced(profile), None) => profile.frame(next, size),
        };
        // The last frame holds what is left, and is due with its last trade.
        let most = if saved.is_some() || size > 0 { u64::MAX } else { next + FRAME_TRADES_MOST };
        let cut = end.min(self.end).min(most);
        match &self.pace {
            Pace::Paced(profile) if size > 0 && cut < end => (cut, profile.time(cut.saturating_sub(1))),
            _ => (cut, due),
        }
    }

    /// When the one market began: with its first client.
    fn market_start(&self, now: Nanos) -> Nanos {
        *self.market.get_or_init(|| now)
    }

    fn over_limit(&self) -> bool {
        self.max_connections.is_some_and(|most| self.connected.load(Relaxed) > most)
    }
}

/// A client as reports tell it.
#[derive(Clone, Debug, Serialize)]
pub struct ClientReport {
    pub client: u64,
    pub peer: String,
    pub trades: u64,
    pub bytes: u64,
    pub frames: u64,
    /// 16 hexadecimal digits.
    pub checksum: String,
    pub elapsed_ns: u64,
    pub complete: bool,
    pub connected: bool,
}

type Clients = Arc<Mutex<Vec<(SocketAddr, Arc<Account>)>>>;

/// The running server. Dropping it stops it.
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    clients: Clients,
    listener: Option<JoinHandle<()>>,
}

impl Server {
    /// Loads the tape and listens. Gives a sentence that says what is wrong.
    pub fn start(options: &Options) -> Result<Self, String> {
        let shared = Arc::new(Shared::new(options)?);
        let wrong = |error: io::Error| {
            format!("{} cannot be listened on ({error}): choose another --host or --port", options.address)
        };
        let listener = TcpListener::bind(&options.address).map_err(wrong)?;
        let address = listener.local_addr().map_err(wrong)?;
        let clients = Clients::default();
        let (theirs, known) = (shared.clone(), clients.clone());
        let thread = std::thread::Builder::new().name("tickplant-tape".into());
        let listener = thread.spawn(move || listen(&listener, &theirs, &known)).map_err(wrong)?;
        Ok(Self { address, shared, clients, listener: Some(listener) })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Every client so far, in the order of their coming.
    pub fn clients(&self) -> Vec<ClientReport> {
        let clients = self.clients.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let report = |(index, (peer, account)): (usize, &(SocketAddr, Arc<Account>))| ClientReport {
            client: index as u64 + 1,
            peer: peer.to_string(),
            trades: account.trades.load(Relaxed),
            bytes: account.bytes.load(Relaxed),
            frames: account.frames.load(Relaxed),
            checksum: format!("{:016x}", account.checksum.load(Relaxed)),
            elapsed_ns: account.elapsed.load(Relaxed),
            complete: account.complete.load(Relaxed),
            connected: !account.gone.load(Relaxed),
        };
        clients.iter().enumerate().map(report).collect()
    }

    /// Ends every connection and waits for the threads.
    pub fn stop(&mut self) {
        self.shared.stop.store(true, Relaxed);
        if let Some(listener) = self.listener.take() {
            // The listener waits for a connection: it gets one.
            let _ = TcpStream::connect(self.address);
            let _ = listener.join();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn listen(listener: &TcpListener, shared: &Shared, known: &Clients) {
    std::thread::scope(|scope| {
        while let Ok((socket, peer)) = listener.accept() {
            if shared.stop.load(Relaxed) {
                return;
            }
            let account = Arc::<Account>::default();
            known.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((peer, account.clone()));
            shared.connected.fetch_add(1, Relaxed);
            let serve = move || {
                // A connection that breaks is a client that left: its account says how far it got.
                let _ = Transport::new(socket, shared.tls.as_ref())
                    .and_then(|transport| Client::new(shared, &account, transport).run());
                account.gone.store(true, Relaxed);
                shared.connected.fetch_sub(1, Relaxed);
            };
            // Without a thread the connection is dropped, which its client sees.
            let _ = std::thread::Builder::new().name("tickplant-tape-client".into()).spawn_scoped(scope, serve);
        }
    });
}
