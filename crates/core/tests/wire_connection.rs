//! The connection against scripted servers: every byte that they send stands in the test.

use rustix::event::{poll, PollFd, PollFlags, Timespec};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread::JoinHandle;
use tickplant_core::clock::{Clock, SystemClock, MILLISECOND, SECOND};
use tickplant_core::record::Reason;
use tickplant_core::wire::{handshake, Cause, Message, Options, Phase, Proxy, Ready, Url, WebSocket, WireError};

type Script = Box<dyn FnOnce(TcpStream, String) + Send>;

/// A server for one connection after the other; the script gets the socket and the request's text.
fn serve(scripts: Vec<Script>) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        for script in scripts {
            let (mut socket, _) = listener.accept().unwrap();
            let request = read_head(&mut socket);
            script(socket, request);
        }
    });
    (address, thread)
}

fn read_head(socket: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && socket.read(&mut byte).unwrap() == 1 {
        head.extend(byte);
    }
    String::from_utf8_lossy(&head).into_owned()
}

fn accept(request: &str) -> Vec<u8> {
    let key = request.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).unwrap();
    let head = "HTTP/1.1 101 Switching Protocols\r\nupgrade: WebSocket\r\nCONNECTION: keep-alive, Upgrade\r\nSec-WebSocket-Accept: ";
    format!("{head}{}\r\n\r\n", handshake::accept_of(key)).into_bytes()
}

fn options(address: SocketAddr) -> Options {
    Options::new(Url::parse(&format!("ws://{address}/feed?token=secret")).unwrap(), vec![address])
}

fn connect(options: Options) -> WebSocket {
    WebSocket::connect(options, 1, SystemClock::new().now()).unwrap()
}

/// Drives a connection to its end, as a loop would, and gives its messages as text, and the end.
fn run(socket: WebSocket, opened: impl FnMut(&mut WebSocket)) -> (Vec<String>, WireError) {
    let mut clock = SystemClock::new();
    run_by(socket, opened, |_| clock.now())
}

/// The same by a clock of the test's own, which hears whether the socket had anything to say.
fn run_by(
    mut socket: WebSocket,
    mut opened: impl FnMut(&mut WebSocket),
    mut now: impl FnMut(bool) -> u64,
) -> (Vec<String>, WireError) {
    let mut seen = Vec::new();
    loop {
        let wait = socket.deadline().map_or(SECOND - 1, |deadline| deadline.saturating_sub(now(false))).min(SECOND - 1);
        let flags = if socket.wants_write() { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
        // SAFETY: the socket outlives this borrow of its descriptor.
        let fd = unsafe { BorrowedFd::borrow_raw(socket.fd()) };
        let mut fds = [PollFd::new(&fd, flags)];
        let is_quiet = poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: wait as i64 })).unwrap() == 0;
        let is = |flag| fds[0].revents().intersects(flag | PollFlags::ERR | PollFlags::HUP);
        match step(&mut socket, is(PollFlags::IN), is(PollFlags::OUT), now(is_quiet), &mut seen) {
            Ok(true) => opened(&mut socket),
            Ok(false) => {}
            Err(error) => {
                assert_eq!((socket.read(), socket.phase()), (Err(error.clone()), Phase::Closed), "an end stays");
                return (seen, error);
            }
        }
    }
}

fn step(
    socket: &mut WebSocket,
    readable: bool,
    writable: bool,
    now: u64,
    seen: &mut Vec<String>,
) -> Result<bool, WireError> {
    let ready = socket.on_ready(readable, writable, now)?;
    if matches!(ready, Ready::Opened | Ready::Readable) {
        socket.read()?;
        while let Some(message) = socket.next_message()? {
            seen.push(match message {
                Message::Text(text) => format!("text {}", String::from_utf8_lossy(text)),
                Message::Binary(bytes) => format!("binary {}", bytes.len()),
                other => format!("{other:?}"),
            });
        }
    }
    Ok(ready == Ready::Opened)
}

fn end_of(script: impl FnOnce(TcpStream, String) + Send + 'static) -> (Vec<String>, WireError) {
    let (address, thread) = serve(vec![Box::new(script)]);
    let result = run(connect(options(address)), |_| ());
    thread.join().unwrap();
    result
}

#[test]
fn messages_that_came_with_the_handshake_are_taken_and_the_close_is_answered() {
    let (seen, error) = end_of(|mut socket, request| {
        assert!(request.starts_with("GET /feed?token=secret HTTP/1.1\r\nHost: 127.0.0.1:"), "{request}");
        let mut bytes = accept(&request);
        bytes.extend(b"\x81\x02hi\x89\x01p\x01\x01a\x80\x01b\x88\x05\x03\xe9bye");
        socket.write_all(&bytes).unwrap();
        // The pong, then the close with the same code, both masked.
        let mut reply = [0; 7 + 8];
        socket.read_exact(&mut reply).unwrap();
        assert_eq!((reply[0], reply[1], reply[7], reply[8]), (0x8a, 0x81, 0x88, 0x82));
        assert_eq!(reply[6] ^ reply[2], b'p');
        assert_eq!([reply[13] ^ reply[9], reply[14] ^ reply[10]], 1001u16.to_be_bytes());
    });
    assert_eq!(seen, ["text hi", "Ping([112])", "text ab", "Close { code: Some(1001), reason: \"bye\" }"]);
    assert_eq!(error.cause, Cause::Closed { by_us: false, code: Some(1001), text: "bye".into() });
    assert_eq!(error.reason(), Reason::PeerClosed);
    assert!(error.to_string().starts_with("closed by the peer with code 1001 \"bye\" (ws://127.0.0.1:"), "{error}");
    assert!(!error.to_string().contains("secret"));
}

#[test]
fn our_close_waits_for_the_peer_and_gives_nothing_more_out() {
    let (address, thread) = serve(vec![Box::new(|mut socket, request| {
        socket.write_all(&accept(&request)).unwrap();
        socket.read_exact(&mut [0; 8 + 3]).unwrap();
        socket.write_all(b"\x81\x04late\x88\x02\x03\xe8").unwrap();
    })]);
    let (seen, error) = run(connect(options(address)), |socket| {
        socket.close(1000, "end", SystemClock::new().now());
        assert_eq!(socket.send_text("more").unwrap_err().cause, Cause::NotOpen { phase: Phase::Closing });
    });
    thread.join().unwrap();
    assert_eq!(seen, ["Close { code: Some(1000), reason: \"\" }"]);
    assert_eq!(error.reason(), Reason::Requested);
    assert_eq!(error.cause, Cause::Closed { by_us: true, code: Some(1000), text: "".into() });
}

#[test]
fn a_peer_that_ignores_our_close_is_left_at_the_deadline() {
    let (address, thread) = serve(vec![Box::new(|mut socket, request| {
        socket.write_all(&accept(&request)).unwrap();
        let _ = socket.read_to_end(&mut Vec::new());
    })]);
    let options = Options { close_within: 50 * MILLISECOND, ..options(address) };
    let (_, error) = run(connect(options), |socket| socket.close(1000, "", SystemClock::new().now()));
    thread.join().unwrap();
    assert_eq!(error.cause, Cause::Closed { by_us: true, code: None, text: "".into() });
}

#[test]
fn a_close_before_the_handshake_ends_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut socket = connect(options(listener.local_addr().unwrap()));
    socket.close(1000, "", 5);
    assert_eq!(socket.deadline(), Some(5));
    let error = socket.on_ready(false, false, 5).unwrap_err();
    assert_eq!(error.reason(), Reason::Requested);
}

#[test]
fn an_illegal_frame_ends_it_with_a_close_that_says_why() {
    let (seen, error) = end_of(|mut socket, request| {
        socket.write_all(&accept(&request)).unwrap();
        socket.write_all(b"\x81\x02ok\x83\x00").unwrap();
        let mut close = [0; 8];
        socket.read_exact(&mut close).unwrap();
        assert_eq!((close[0], [close[6] ^ close[2], close[7] ^ close[3]]), (0x88, 1002u16.to_be_bytes()));
    });
    assert_eq!((seen, error.reason()), (vec!["text ok".to_string()], Reason::ProtocolError));
    assert!(error.to_string().contains("illegal frame: opcode 0x3"), "{error}");
}

#[test]
fn an_end_without_a_close_is_a_lost_connection() {
    let (_, error) = end_of(|mut socket, request| socket.write_all(&accept(&request)).unwrap());
    assert_eq!(error.cause, Cause::Lost { phase: Phase::Open, error: None });
}

/// The end of a connection whose server answers the request so; with a "keep" in it the server leaves TCP open. The
/// deadline comes when all of the answer was read, however long that takes.
fn refusal(reply: &'static str) -> WireError {
    let is_sent = Arc::new(AtomicBool::new(false));
    let sent = is_sent.clone();
    let (address, thread) = serve(vec![Box::new(move |mut socket: TcpStream, _| {
        socket.write_all(reply.as_bytes()).unwrap();
        sent.store(true, Ordering::SeqCst);
        if reply.contains("keep") {
            let _ = socket.read_to_end(&mut Vec::new());
        }
    })]);
    let mut time = SystemClock::new().now();
    let options = Options { open_within: 100 * MILLISECOND, ..options(address) };
    let socket = WebSocket::connect(options, 1, time).unwrap();
    let mut was_sent = false;
    let clock = |is_quiet| {
        // What had been sent before a quiet poll was read before it.
        if is_quiet && was_sent {
            time += SECOND;
        }
        was_sent = is_sent.load(Ordering::SeqCst);
        time
    };
    let (seen, error) = run_by(socket, |_| (), clock);
    thread.join().unwrap();
    assert!(seen.is_empty());
    error
}

#[test]
fn refused_handshakes_say_what_came() {
    let error = refusal("HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7\r\nContent-Length: 4\r\n\r\nslow");
    assert_eq!((error.reason(), error.retry_after()), (Reason::RateLimited, Some(7 * SECOND)));
    assert!(error.to_string().contains("429 Too Many Requests, retry after 7 s"), "{error}");
    assert_eq!(refusal("HTTP/1.1 418 I'm a teapot\r\nRetry-After: 120\r\n\r\n").reason(), Reason::RateLimited);
    let html = refusal("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html>\n<h1>Sign in</h1>");
    assert_eq!(html.reason(), Reason::HandshakeRefused);
    assert!(html.to_string().contains("text/html: \"<html> <h1>Sign in</h1>\""), "{html}");
    // A body that never ends is told at the deadline.
    let endless = refusal("HTTP/1.1 403 Forbidden\r\nX: keep\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nregion\r\n");
    assert!(endless.to_string().contains("403 Forbidden, : \"region\""), "{endless}");
    assert_eq!(refusal("HTTP/1.1 401 Unauthorized\r\n\r\n").reason(), Reason::AuthFailed);
    assert_eq!(refusal("SSH-2.0-OpenSSH_9.6\r\n").reason(), Reason::ProtocolError);
    assert_eq!(refusal("").reason(), Reason::PeerClosed);
    assert_eq!(refusal("HTTP/1.1 101 x\r\nkeep: 1\r\n").reason(), Reason::Silent);
    assert_eq!(refusal("HTTP/1.1 101 x\r\n\r\n").reason(), Reason::ProtocolError);
    let wrong =
        refusal("HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Accept: no\r\n\r\n");
    assert!(wrong.to_string().contains("\"no\" does not answer our key"), "{wrong}");
}

#[test]
fn an_answer_without_end_is_cut_and_judged() {
    // Heads and bodies that never come to their end, as fast as the socket takes them.
    for (head, reason) in [
        ("HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\nzz", Reason::HandshakeRefused),
        ("HTTP/1.1 101 Switching\r\nX: ", Reason::ProtocolError),
    ] {
        let (address, thread) = serve(vec![Box::new(move |mut socket: TcpStream, _| {
            socket.write_all(head.as_bytes()).unwrap();
            while socket.write_all(&[b'z'; 10_000]).is_ok() {}
        })]);
        let started = SystemClock::new().now();
        let open_within = 100 * SECOND;
        let (_, error) = run(connect(Options { buffer_bytes: 0, open_within, ..options(address) }), |_| ());
        assert_eq!(error.reason(), reason, "{error}");
        assert!(SystemClock::new().now() - started < open_within, "it is cut long before the deadline");
        thread.join().unwrap();
    }
}

#[test]
fn a_refused_address_gives_way_to_the_next() {
    let closed = SocketAddr::from(([127, 0, 0, 1], 1));
    let (address, thread) = serve(vec![Box::new(|mut socket, request| {
        socket.write_all(&accept(&request)).unwrap();
        socket.write_all(b"\x88\x00").unwrap();
    })]);
    let mut options = options(address);
    options.addresses.insert(0, closed);
    let (seen, _) = run(connect(options.clone()), |_| ());
    assert_eq!(seen, ["Close { code: None, reason: \"\" }"]);
    thread.join().unwrap();
    options.addresses = vec![closed];
    let (_, error) = run(connect(options.clone()), |_| ());
    assert_eq!(error.reason(), Reason::ConnectFailed);
    assert!(error.to_string().contains(&format!("no connection to {closed}: connection refused")), "{error}");
    options.addresses.clear();
    assert_eq!(WebSocket::connect(options, 1, 0).err().unwrap().cause, Cause::NoAddress);
}

#[test]
fn a_header_that_would_smuggle_is_refused() {
    for (name, value) in [("X", "a\r\nY: b"), ("Host", "x"), ("a b", "c")] {
        let mut options = options("127.0.0.1:1".parse().unwrap());
        options.headers = vec![(name.into(), value.into())];
        let error = WebSocket::connect(options, 1, 0).err().unwrap();
        assert!(matches!(error.cause, Cause::Setup(_)), "{error}");
    }
}

#[test]
fn a_peer_that_reads_nothing_ends_it_when_too_much_waits() {
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let (address, thread) = serve(vec![Box::new(move |mut socket, request| {
        socket.write_all(&accept(&request)).unwrap();
        assert!(ended.recv().is_err(), "nothing is sent; the other end goes");
    })]);
    let text = "x".repeat(1 << 20);
    let mut ends = Vec::new();
    let (_, error) = run(connect(Options { send_bytes_max: 1 << 20, ..options(address) }), |socket| {
        ends.extend((0..100).filter_map(|_| socket.send_text(&text).err()));
    });
    assert!(matches!(error.cause, Cause::Backlog { .. }), "{error}");
    assert_eq!((ends.first(), error.reason()), (Some(&error), Reason::Silent));
    drop(end);
    thread.join().unwrap();
}

#[test]
fn a_proxy_tunnels_or_refuses() {
    let (address, thread) = serve(vec![
        Box::new(|mut socket, request| {
            assert!(
                request.starts_with("CONNECT venue.example:80 HTTP/1.1\r\nHost: venue.example:80\r\n"),
                "{request}"
            );
            assert!(request.contains("Proxy-Authorization: Basic bWU6cHc=\r\n"), "{request}");
            socket.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").unwrap();
            let request = read_head(&mut socket);
            assert!(request.contains("Host: venue.example\r\n"), "{request}");
            socket.write_all(&accept(&request)).unwrap();
            socket.write_all(b"\x81\x03far\x88\x00").unwrap();
        }),
        Box::new(|mut socket, _| {
            socket.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n").unwrap();
        }),
    ]);
    let mut options = options(address);
    options.url = Url::parse("ws://venue.example/").unwrap();
    options.proxy = Some(Proxy::parse(&format!("http://me:pw@{address}")).unwrap());
    let (seen, _) = run(connect(options.clone()), |_| ());
    assert_eq!(seen[0], "text far");
    let (_, error) = run(connect(options), |_| ());
    assert_eq!(error.reason(), Reason::HandshakeRefused);
    assert!(error.to_string().contains("the proxy answered 407"), "{error}");
    thread.join().unwrap();
}

#[test]
fn tls_to_a_server_that_speaks_none_says_so() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        let _ = socket.read_to_end(&mut Vec::new());
    });
    let mut options = options(address);
    options.url = Url::parse(&format!("wss://{address}/")).unwrap();
    let (_, error) = run(connect(options), |_| ());
    assert_eq!(error.reason(), Reason::TlsFailed);
    assert!(error.to_string().contains("the peer does not speak TLS"), "{error}");
    thread.join().unwrap();
}
