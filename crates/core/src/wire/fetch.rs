//! HTTP replies for the loops: one thread with ureq, a bounded queue in, and for each loop a port with its own descriptor.
//!
//! Names are resolved anew at each fetch and no connection is kept: a snapshot is rare, and a venue that moved or a kept
//! connection that the venue closed meanwhile must not fail it. A redirect is followed up to five times.

use super::http;
use super::proxy::Proxy;
use super::tls::{self, Tls};
use crate::clock::{Nanos, SECOND};
use rustix::event::{eventfd, EventfdFlags};
use rustls::pki_types::ServerName;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::mpsc::{channel, sync_channel, Receiver, Sender, SyncSender};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport as parts;
use ureq::unversioned::transport::{ConnectionDetails, Connector, Either, NextTimeout, Transport};

/// How the fetcher works.
#[derive(Clone, Debug)]
pub struct FetchOptions {
    pub tls: Tls,
    pub proxy: Option<Proxy>,
    /// Time for one reply, from the name's resolution to the body's end.
    pub reply_within: Nanos,
    /// Largest body, in bytes.
    pub body_bytes_max: u64,
    /// Most requests that wait.
    pub queue_max: usize,
    /// What is done with the body of a reply of status 200 before it is handed on.
    pub shorten: Option<Shorten>,
}

/// Makes less of a body, on the fetcher's thread.
#[derive(Clone)]
pub struct Shorten(pub Arc<dyn Fn(Vec<u8>) -> Vec<u8> + Send + Sync>);

impl std::fmt::Debug for Shorten {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Shorten")
    }
}

impl Default for FetchOptions {
    fn default() -> Self {
        let (tls, proxy, shorten) = (Tls::default(), None, None);
        Self { tls, proxy, reply_within: 15 * SECOND, body_bytes_max: 64 << 20, queue_max: 1024, shorten }
    }
}

/// One GET.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchRequest {
    /// The caller's number; the reply bears it.
    pub request: u64,
    pub url: String,
    pub headers: Vec<(String, String)>,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchReply {
    pub request: u64,
    /// The HTTP status; 0 where no whole reply came, then `body` says why.
    pub status: u16,
    pub retry_after: Option<Nanos>,
    pub body: Vec<u8>,
}

/// The thread. Dropping it breaks off the fetch under way and forgets those that wait.
pub struct Fetcher {
    queue: Option<SyncSender<Job>>,
    agent: ureq::Agent,
    thread: Option<JoinHandle<()>>,
}

/// One loop's way to the fetcher: requests in, replies out.
pub struct FetchPort {
    queue: SyncSender<Job>,
    sender: Sender<FetchReply>,
    receiver: Receiver<FetchReply>,
    event: Arc<OwnedFd>,
}

struct Job {
    request: FetchRequest,
    replies: Sender<FetchReply>,
    event: Arc<OwnedFd>,
}

impl Fetcher {
    /// Starts the thread. An error says which setting is unusable.
    pub fn start(options: &FetchOptions) -> Result<Self, String> {
        let proxy = options.proxy.as_ref().map(|proxy| ureq::Proxy::new(proxy.text()));
        let proxy = proxy.transpose().map_err(|error| format!("the proxy's address is wrong: {error}"))?;
        let config = ureq::config::Config::builder()
            .proxy(proxy)
            .timeout_global(Some(Duration::from_nanos(options.reply_within)))
            .http_status_as_error(false)
            .max_redirects(5)
            .max_idle_connections(0)
            .user_agent(concat!("tickplant/", env!("CARGO_PKG_VERSION")))
            .build();
        let chain = ().chain(parts::ConnectProxyConnector::default()).chain(parts::TcpConnector::default());
        let chain = chain.chain(TlsConnector { tls: options.tls.clone() });
        let agent = ureq::Agent::with_parts(config, chain, DefaultResolver::default());
        let (queue, jobs) = sync_channel::<Job>(options.queue_max);
        let (worker, body_bytes_max, shorten) = (agent.clone(), options.body_bytes_max, options.shorten.clone());
        let thread = std::thread::Builder::new().name("tickplant-fetch".into()).spawn(move || {
            for job in jobs {
                let mut reply = fetch(&worker, &job.request, body_bytes_max);
                if let Some(Shorten(shorten)) = shorten.as_ref().filter(|_| reply.status == 200) {
                    reply.body = shorten(reply.body);
                }
                // A port that is gone wants no reply.
                if job.replies.send(reply).is_ok() {
                    let _ = rustix::io::write(&job.event, &1u64.to_ne_bytes());
                }
            }
        });
        let thread = thread.map_err(|error| format!("the fetcher's thread cannot be started: {error}"))?;
        Ok(Self { queue: Some(queue), agent, thread: Some(thread) })
    }

    /// A further port. An error where the system gives no event descriptor.
    pub fn port(&self) -> std::io::Result<FetchPort> {
        let queue = self.queue.clone().ok_or(std::io::ErrorKind::BrokenPipe)?;
        let event = Arc::new(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?);
        let (sender, receiver) = channel();
        Ok(FetchPort { queue, sender, receiver, event })
    }
}

impl Drop for Fetcher {
    fn drop(&mut self) {
        self.queue = None;
        // Ports may still hold the queue, so the thread is not awaited: what waits in it fails at once now.
        self.agent.clone().shutdown();
        drop(self.thread.take());
    }
}

impl FetchPort {
    /// Queues a request; gives it back where the queue is full or the fetcher is gone.
    pub fn fetch(&self, request: FetchRequest) -> Result<(), FetchRequest> {
        let job = Job { request, replies: self.sender.clone(), event: self.event.clone() };
        self.queue.try_send(job).map_err(|refused| match refused {
            std::sync::mpsc::TrySendError::Full(job) | std::sync::mpsc::TrySendError::Disconnected(job) => job.request,
        })
    }

    /// Readable when a reply waits.
    pub fn fd(&self) -> RawFd {
        self.event.as_raw_fd()
    }

    /// The next reply; take them until there is none.
    pub fn next_reply(&mut self) -> Option<FetchReply> {
        // Reset before looking: a reply that comes in between makes it readable again.
        let _ = rustix::io::read(&self.event, &mut [0u8; 8]);
        self.receiver.try_recv().ok()
    }
}

fn fetch(agent: &ureq::Agent, request: &FetchRequest, body_bytes_max: u64) -> FetchReply {
    let mut call = agent.get(&request.url);
    for (name, value) in &request.headers {
        call = call.header(name, value);
    }
    let reply = call.call().and_then(|mut reply| {
        let body = reply.body_mut().with_config().limit(body_bytes_max).read_to_vec()?;
        Ok((reply, body))
    });
    match reply {
        Ok((reply, body)) => {
            let header = |name| reply.headers().get(name).and_then(|value| value.to_str().ok());
            let retry_after = header("retry-after").and_then(|value| http::retry_after(value, header("date")));
            FetchReply { request: request.request, status: reply.status().as_u16(), retry_after, body }
        }
        Err(error) => {
            // Without its query, which may hold a key.
            let place = request.url.split('?').next().unwrap_or_default();
            let body = format!("no reply from {place}: {}", error_text(&error)).into_bytes();
            FetchReply { request: request.request, status: 0, retry_after: None, body }
        }
    }
}

fn error_text(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Io(error) => error.to_string().split(" (os error").next().unwrap_or_default().to_lowercase(),
        ureq::Error::HostNotFound => "the host's name has no address".into(),
        ureq::Error::Timeout(what) => format!("it took too long ({what})"),
        ureq::Error::BodyExceedsLimit(limit) => format!("the body exceeds {limit} bytes"),
        error => error.to_string(),
    }
}

/// TLS for ureq with the same authorities as the WebSockets have.
#[derive(Debug)]
struct TlsConnector {
    tls: Tls,
}

impl<In: Transport> Connector<In> for TlsConnector {
    type Out = Either<In, TlsTransport>;

    fn connect(&self, details: &ConnectionDetails<'_>, chained: Option<In>) -> Result<Option<Self::Out>, ureq::Error> {
        let Some(transport) = chained else { return Ok(None) };
        if !details.needs_tls() || transport.is_tls() {
            return Ok(Some(Either::A(transport)));
        }
        let other = |text: String| ureq::Error::Io(std::io::Error::other(text));
        let host = details.uri.host().unwrap_or_default().trim_matches(['[', ']']).to_string();
        let name =
            ServerName::try_from(host).map_err(|_| other("the host is no name that a certificate can have".into()))?;
        let config = self.tls.config().map_err(other)?;
        let mut connection = rustls::ClientConnection::new(config, name)?;
        let transport: Box<dyn Transport> = Box::new(transport);
        let mut socket = parts::TransportAdapter::new(transport, details.current_time.clone());
        socket.set_timeout(details.timeout);
        while connection.is_handshaking() {
            connection.complete_io(&mut socket).map_err(|error| {
                match error.get_ref().and_then(|e| e.downcast_ref()) {
                    Some(error) => other(tls::cause(error).to_string()),
                    None => ureq::Error::from(error),
                }
            })?;
        }
        let buffers = parts::LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
        Ok(Some(Either::B(TlsTransport { buffers, stream: rustls::StreamOwned::new(connection, socket) })))
    }
}

struct TlsTransport {
    buffers: parts::LazyBuffers,
    stream: rustls::StreamOwned<rustls::ClientConnection, parts::TransportAdapter>,
}

impl std::fmt::Debug for TlsTransport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TlsTransport")
    }
}

impl Transport for TlsTransport {
    fn buffers(&mut self) -> &mut dyn parts::Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        use parts::Buffers;
        self.stream.get_mut().set_timeout(timeout);
        Ok(self.stream.write_all(&self.buffers.output()[..amount])?)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        use parts::Buffers;
        self.stream.get_mut().set_timeout(timeout);
        let bytes = self.stream.read(self.buffers.input_append_buf())?;
        self.buffers.input_appended(bytes);
        Ok(bytes > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.get_mut().get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}
