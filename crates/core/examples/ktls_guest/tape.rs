//! A router whose feed renews its keys in the middle of the tape. Where the kernel takes no second one it connects anew, and holds
//! the old connection until the new one stands.

use crate::tls_server::{frame, upgrade, Server};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{self, ErrorKind, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tickplant_core::tape::router::{Fault, Router};
use tickplant_core::tape::stats::Report;

/// Trades before the renewal, and behind it.
const HALF: u64 = 5_000;
const TRADES_A_FRAME: u64 = 50;

type Peer = StreamOwned<ServerConnection, TcpStream>;

/// Both halves reach the worker, each trade once and in order; over one connection where the kernel takes a second key, over two
/// where it does not.
pub fn over_renewed_keys(kind: &str, suite: &str) {
    let server = Server::new(suite, tickplant_core::wire::KernelTls::Auto);
    let (config, ca) = server.parts();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let folder = tempfile::tempdir().unwrap();
    let taken = folder.path().join("taken");
    let settings = serde_json::json!({
        "url": format!("wss://localhost:{port}/"), "pipes": 1, "ca": ca, "cwd": null, "spawn": "one", "on_death": "stop",
        "command": ["/bin/busybox", "sh", "-c", "exec /bin/busybox cat /proc/self/fd/$1 >$0", taken],
        "redeliver_bytes": 0, "marks": false, "shard_by": "hash", "policy": "block", "spill_dir": folder.path(),
        "queue_bytes": 0, "pipe_bytes": 1 << 16, "key": null, "subscribe": null, "route_others": false, "once": false,
        "message_bytes_max": 1 << 20, "json": false, "lines": false, "grace_ms": 10_000
    });
    let mut router =
        Router::start(serde_json::from_value(settings).unwrap()).unwrap_or_else(|fault| panic!("{}", told(fault)));
    let (report, is_refused) = (router.report(), kind == "old");
    let (stop, stopper) = io::pipe().unwrap();
    let feeder = std::thread::spawn(move || {
        let fed = feed(&listener, &config, is_refused, &report);
        drop(stopper);
        fed
    });
    let report = router.run(stop.as_fd()).unwrap_or_else(|fault| panic!("{}", told(fault)));
    drop(feeder.join().unwrap().unwrap());
    assert_eq!(report.connections, 1 + u64::from(is_refused), "{suite}");
    let taken = std::fs::read(taken).unwrap();
    assert!(numbers(&taken).eq(0..2 * HALF), "{suite}: {} bytes", taken.len());
    println!("{suite}: a router has {} trades, {} connections", 2 * HALF, report.connections);
}

fn told(fault: Fault) -> String {
    match fault {
        Fault::Settings(what) => what,
        Fault::Peer { what, hint } | Fault::Worker { what, hint } => format!("{what}: {hint}"),
    }
}

/// Sends both halves with a renewal between them, and returns when the router has them all, with the connection.
fn feed(
    listener: &TcpListener,
    config: &Arc<ServerConfig>,
    is_refused: bool,
    report: &Mutex<Report>,
) -> io::Result<Peer> {
    let mut first = accept(listener, config)?;
    upgrade(&mut first)?;
    send(&mut first, 0..HALF)?;
    first.conn.refresh_traffic_keys().map_err(io::Error::other)?;
    if is_refused {
        // What the router cannot open.
        send(&mut first, HALF..HALF + TRADES_A_FRAME)?;
        let mut second = accept(listener, config)?;
        first.sock.set_nonblocking(true)?;
        let end = first.sock.peek(&mut [0]);
        let is_held = !matches!(end, Ok(0)) && !end.is_err_and(|error| error.kind() != ErrorKind::WouldBlock);
        assert!(is_held, "the old connection ended before the new one stood");
        upgrade(&mut second)?;
        send(&mut second, HALF..2 * HALF)?;
        return until_taken(report, second);
    }
    send(&mut first, HALF..2 * HALF)?;
    until_taken(report, first)
}

fn accept(listener: &TcpListener, config: &Arc<ServerConfig>) -> io::Result<Peer> {
    let (socket, _) = listener.accept()?;
    socket.set_read_timeout(Some(Duration::from_secs(60)))?;
    Ok(StreamOwned::new(ServerConnection::new(config.clone()).map_err(io::Error::other)?, socket))
}

fn send(peer: &mut Peer, ids: std::ops::Range<u64>) -> io::Result<()> {
    let trade = |id: u64| format!(r#"{{"ev":"T","sym":"S{:03}","p":1.5,"s":100,"q":{id}}}"#, id % 100);
    for first in ids.clone().step_by(TRADES_A_FRAME as usize) {
        let trades: Vec<String> = (first..ids.end.min(first + TRADES_A_FRAME)).map(trade).collect();
        peer.write_all(&frame(1, format!("[{}]", trades.join(",")).as_bytes()))?;
    }
    peer.flush()
}

/// The router tells its account ten times a second.
fn until_taken(report: &Mutex<Report>, peer: Peer) -> io::Result<Peer> {
    for _ in 0..1200 {
        if report.lock().is_ok_and(|report| report.trades == 2 * HALF) {
            return Ok(peer);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Err(io::Error::other("the router has not all within a minute"))
}

/// `q` of each message that the worker was given.
fn numbers(taken: &[u8]) -> impl Iterator<Item = u64> + '_ {
    let mut rest = taken;
    std::iter::from_fn(move || {
        let (head, behind) = rest.split_at_checked(4)?;
        let (message, next) = behind.split_at(u32::from_le_bytes(head.try_into().ok()?) as usize);
        rest = next;
        serde_json::from_slice::<serde_json::Value>(message).unwrap()["q"].as_u64()
    })
}
