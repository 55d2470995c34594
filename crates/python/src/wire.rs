//! A small blocking WebSocket client over the very code that the loops use, for tests and `doctor`.

use crate::errors::raise_with;
use pyo3::exceptions::{PyTimeoutError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::{PyBackedBytes, PyBackedStr};
use pyo3::types::{PyBytes, PyString};
use std::path::PathBuf;
use std::time::Duration;
use tickplant_core::clock::{Nanos, MILLISECOND, SECOND};
use tickplant_core::record::Reason;
use tickplant_core::wire::blocking::{resolve, wait_ready, Client, Received};
use tickplant_core::wire::frames;
use tickplant_core::wire::{
    Cause, FetchOptions, FetchRequest, Fetcher, Limits, Options, Phase, Proxy, Tls, Url, WireError,
};

/// How long one wait lasts before Python's signals are looked at.
const SLICE: Nanos = 50 * MILLISECOND;

/// A blocking WebSocket client for one thread: a call from another while one lasts is refused.
#[pyclass(module = "tickplant._native")]
pub struct WebSocketClient {
    client: Client,
    timeout: Nanos,
}

#[pymethods]
impl WebSocketClient {
    /// Connects and opens. Raises the errors of `tickplant.errors` under WireError, ConfigError for a wrong setting.
    #[staticmethod]
    #[pyo3(signature = (url, *, ca=None, proxy=None, headers=Vec::new(), subprotocols=Vec::new(), timeout_s=10.0,
                        message_bytes_max=frames::MESSAGE_BYTES_MAX))]
    #[allow(clippy::too_many_arguments)]
    fn connect(
        py: Python<'_>,
        url: &str,
        ca: Option<PathBuf>,
        proxy: Option<&str>,
        headers: Vec<(String, String)>,
        subprotocols: Vec<String>,
        timeout_s: f64,
        message_bytes_max: usize,
    ) -> PyResult<Self> {
        let timeout = nanos(timeout_s)?;
        let url = Url::parse(url).map_err(|why| setup_error(py, format!("the address {url:?} is wrong: {why}")))?;
        let proxy = proxy.map(Proxy::parse).transpose().map_err(|why| setup_error(py, why))?;
        let addresses = py.detach(|| resolve(&url, proxy.as_ref())).map_err(|error| to_python(py, &error))?;
        let options = Options {
            tls: Tls::new(ca),
            proxy,
            headers,
            subprotocols,
            limits: Limits { message_bytes_max, ..Limits::default() },
            connect_within: timeout,
            open_within: timeout,
            ..Options::new(url, addresses)
        };
        let client = py.detach(|| Client::connect(options)).map_err(|error| to_python(py, &error))?;
        let mut this = Self { client, timeout };
        // The connection's own deadline comes first and says what took too long.
        this.wait(py, Some(timeout_s + 1.0), |client| client.socket.is_open().then_some(()))?;
        Ok(this)
    }

    /// The next message: str of a text, bytes of a binary. Raises TimeoutError, or WireError when the connection ended.
    #[pyo3(signature = (timeout_s=None))]
    fn recv<'py>(&mut self, py: Python<'py>, timeout_s: Option<f64>) -> PyResult<Bound<'py, PyAny>> {
        Ok(match self.wait(py, timeout_s, |client| client.messages.pop_front())? {
            Received::Text(text) => PyString::new(py, &text).into_any(),
            Received::Binary(bytes) => PyBytes::new(py, &bytes).into_any(),
        })
    }

    /// Sends str as a text, bytes as a binary message. Returns when the kernel has it.
    fn send(&mut self, py: Python<'_>, message: SendMessage) -> PyResult<()> {
        let socket = &mut self.client.socket;
        let sent = match &message {
            SendMessage::Text(text) => socket.send_text(text),
            SendMessage::Binary(bytes) => socket.send_binary(bytes),
        };
        sent.map_err(|error| to_python(py, &error))?;
        self.wait(py, None, |client| (!client.socket.wants_write()).then_some(()))
    }

    /// Sends a ping and waits for its pong; the round trip in seconds.
    #[pyo3(signature = (payload=Vec::new(), timeout_s=None))]
    fn ping(&mut self, py: Python<'_>, payload: Vec<u8>, timeout_s: Option<f64>) -> PyResult<f64> {
        if payload.len() > frames::CONTROL_BYTES_MAX {
            return Err(PyValueError::new_err(format!("a ping has at most {} bytes", frames::CONTROL_BYTES_MAX)));
        }
        let started = self.client.now();
        self.client.socket.ping(&payload).map_err(|error| to_python(py, &error))?;
        self.wait(py, timeout_s, |client| client.pongs.pop_front().filter(|pong| *pong == payload))?;
        Ok((self.client.now() - started) as f64 / SECOND as f64)
    }

    /// Closes and waits for the peer's close, at most two seconds. What the end was, as a text.
    #[pyo3(signature = (code=1000, reason=""))]
    fn close(&mut self, py: Python<'_>, code: u16, reason: &str) -> PyResult<String> {
        if !frames::is_close_code(code) {
            return Err(PyValueError::new_err(format!("close code {code} must not be sent")));
        }
        self.client.close(code, reason);
        loop {
            py.check_signals()?;
            if let Err(error) = py.detach(|| self.client.turn(SLICE)) {
                return Ok(error.what());
            }
        }
    }

    /// The address that is connected: the proxy's where there is one.
    #[getter]
    fn address(&self) -> String {
        self.client.socket.address().to_string()
    }

    /// The subprotocol that the server chose.
    #[getter]
    fn subprotocol(&self) -> Option<&str> {
        self.client.socket.subprotocol()
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __exit__(&mut self, py: Python<'_>, _kind: Py<PyAny>, _value: Py<PyAny>, _trace: Py<PyAny>) -> PyResult<()> {
        self.close(py, 1000, "").map(|_| ())
    }
}

#[derive(FromPyObject)]
enum SendMessage {
    #[pyo3(transparent)]
    Text(PyBackedStr),
    #[pyo3(transparent)]
    Binary(PyBackedBytes),
}

impl WebSocketClient {
    /// Takes turns, without the GIL, until `take` gives something.
    fn wait<T: Send>(
        &mut self,
        py: Python<'_>,
        timeout_s: Option<f64>,
        mut take: impl FnMut(&mut Client) -> Option<T> + Send,
    ) -> PyResult<T> {
        let timeout = timeout_s.map_or(Ok(self.timeout), nanos)?;
        let until = self.client.now().saturating_add(timeout);
        let mut end = None;
        loop {
            if let Some(taken) = take(&mut self.client) {
                return Ok(taken);
            }
            if let Some(error) = end {
                return Err(to_python(py, &error));
            }
            py.check_signals()?;
            let left = until.saturating_sub(self.client.now());
            if left == 0 {
                return Err(PyTimeoutError::new_err(format!("nothing came within {} s", timeout as f64 / 1e9)));
            }
            // What came before the end is still taken.
            end = py.detach(|| self.client.turn(left.min(SLICE))).err();
        }
    }
}

/// GET of a URL through the fetcher of the loops: status, seconds to wait (Retry-After) and body.
#[pyfunction]
#[pyo3(signature = (url, *, ca=None, proxy=None, headers=Vec::new(), timeout_s=15.0))]
pub fn http_get<'py>(
    py: Python<'py>,
    url: &str,
    ca: Option<PathBuf>,
    proxy: Option<&str>,
    headers: Vec<(String, String)>,
    timeout_s: f64,
) -> PyResult<(u16, Option<f64>, Bound<'py, PyBytes>)> {
    let proxy = proxy.map(Proxy::parse).transpose().map_err(|why| setup_error(py, why))?;
    let options = FetchOptions { tls: Tls::new(ca), proxy, reply_within: nanos(timeout_s)?, ..FetchOptions::default() };
    let fetcher = Fetcher::start(&options).map_err(|why| setup_error(py, why))?;
    let mut port = fetcher.port()?;
    let request = FetchRequest { request: 0, url: url.to_string(), headers };
    port.fetch(request).map_err(|_| setup_error(py, "the fetcher takes no request".into()))?;
    loop {
        py.check_signals()?;
        if let Some(reply) = port.next_reply() {
            if reply.status == 0 {
                let what = String::from_utf8_lossy(&reply.body).into_owned();
                return Err(raise_with(py, "WireError", &what, |_| Ok(())));
            }
            let wait = reply.retry_after.map(|wait| wait as f64 / SECOND as f64);
            return Ok((reply.status, wait, PyBytes::new(py, &reply.body)));
        }
        let fd = port.fd();
        py.detach(|| wait_ready(fd, false, SLICE));
    }
}

fn nanos(seconds: f64) -> PyResult<Nanos> {
    let span = Duration::try_from_secs_f64(seconds).ok().filter(|span| span.as_secs() < 1_000_000);
    let span = span.ok_or_else(|| PyValueError::new_err(format!("timeout_s must be 0 to 1000000, not {seconds}")))?;
    Ok(span.as_nanos() as Nanos)
}

fn setup_error(py: Python<'_>, what: String) -> PyErr {
    raise_with(py, "ConfigError", &what, |_| Ok(()))
}

/// A wrong path or a ban does not heal by itself; overload and rate limits do.
fn may_heal(status: u16) -> bool {
    matches!(status, 408 | 418 | 425 | 429 | 500..)
}

/// The Python error of a connection's end.
fn to_python(py: Python<'_>, error: &WireError) -> PyErr {
    let class = match (&error.cause, error.reason()) {
        (Cause::Setup(_), _) => return setup_error(py, error.what()),
        (Cause::Frame(_), _) => "ProtocolError",
        (_, Reason::ConnectFailed) => "ConnectFailed",
        (_, Reason::TlsFailed) => "TlsFailed",
        (Cause::Handshake(_), _) => "HandshakeRefused",
        (Cause::Timeout { .. } | Cause::Lost { phase: Phase::Proxy | Phase::Upgrade, .. }, _) => "HandshakeRefused",
        _ => "WireError",
    };
    raise_with(py, class, &error.what(), |instance| {
        instance.setattr("where", &error.place)?;
        instance.setattr("hint", error.hint())?;
        instance.setattr("reason", format!("{:?}", error.reason()))?;
        instance.setattr("retry_after_s", error.retry_after().map(|wait| wait as f64 / SECOND as f64))?;
        match &error.cause {
            Cause::Closed { code, .. } => instance.setattr("close_code", *code),
            Cause::Handshake(error) => {
                instance.setattr("status", error.status().unwrap_or(0))?;
                instance.setattr("retry", error.status().is_none_or(may_heal))
            }
            _ => Ok(()),
        }
    })
}
