//! The timed sender of the latency bench: open-loop, each message carries the time at which it was due.
//!
//! `timed_sender RATE SECONDS TRADES [--kraken]` listens on a free loopback port, prints it, serves one client and ends.
//! Plain: 128-byte messages that open with the due time (CLOCK_MONOTONIC, ns) for `bench/floor.c`. `--kraken`: WebSocket
//! and the Kraken v2 trade channel for BTC/USD, TRADES trades a message, the due time as each trade's quantity.

use base64::Engine;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use tickplant_core::clock::monotonic;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [rate, seconds, trades] = [0, 1, 2].map(|at| args[at].parse::<u64>().expect("a whole number"));
    let kraken = args.iter().any(|arg| arg == "--kraken");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    println!("{}", listener.local_addr().expect("bound").port());
    let (mut client, _) = listener.accept().expect("a client");
    client.set_nodelay(true).expect("TCP");
    if kraken {
        upgrade(&mut client);
        await_trade_subscription(&mut client);
    }
    // The receiving side settles before the clock starts.
    std::thread::sleep(std::time::Duration::from_millis(500));
    let mut out = Vec::with_capacity(1 << 20);
    let (start, total) = (monotonic() + 1_000_000, rate * seconds);
    let mut sent = 0;
    while sent < total {
        let due = start + sent * 1_000_000_000 / rate;
        sleep_until(due);
        out.clear();
        // Whatever is overdue by now goes out in one write, each message with its own due time.
        let time = monotonic();
        while sent < total && start + sent * 1_000_000_000 / rate <= time {
            let due = start + sent * 1_000_000_000 / rate;
            if kraken {
                append_trades(&mut out, due, sent, trades);
            } else {
                out.extend_from_slice(&due.to_le_bytes());
                out.resize(out.len() + 120, 0);
            }
            sent += 1;
        }
        client.write_all(&out).expect("the client reads");
    }
    std::thread::sleep(std::time::Duration::from_millis(300));
}

fn sleep_until(due: u64) {
    let request =
        rustix::time::Timespec { tv_sec: (due / 1_000_000_000) as i64, tv_nsec: (due % 1_000_000_000) as i64 };
    let _ = rustix::thread::clock_nanosleep_absolute(rustix::thread::ClockId::Monotonic, &request);
}

fn upgrade(client: &mut TcpStream) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).expect("a request");
        request.push(byte[0]);
    }
    let text = String::from_utf8(request).expect("an HTTP request");
    let key = text
        .lines()
        .find_map(|line| line.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key")))
        .expect("a key")
        .1
        .trim();
    let digest = sha1_smol::Sha1::from(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11")).digest().bytes();
    let accept = base64::engine::general_purpose::STANDARD.encode(digest);
    let reply = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    client.write_all(reply.as_bytes()).expect("the client reads");
    let status = r#"{"channel":"status","type":"update","data":[{"system":"online","api_version":"v2","connection_id":1,"version":"2.0.0"}]}"#;
    let mut frame = Vec::new();
    append_frame(&mut frame, status.as_bytes());
    client.write_all(&frame).expect("the client reads");
}

/// Acknowledges every subscription until the one for trades has come.
fn await_trade_subscription(client: &mut TcpStream) {
    loop {
        let text = read_message(client);
        let Some((_, tail)) = text.split_once("\"req_id\":") else { continue };
        let id: String = tail.chars().take_while(char::is_ascii_digit).collect();
        let Some((_, tail)) = text.split_once("\"channel\":\"") else { continue };
        let channel = tail.split('"').next().unwrap_or_default();
        let reply = format!(
            r#"{{"method":"subscribe","req_id":{id},"result":{{"channel":"{channel}","snapshot":true,"symbol":"BTC/USD"}},"success":true,"time_in":"2026-01-01T00:00:00.000000Z","time_out":"2026-01-01T00:00:00.000001Z"}}"#
        );
        let mut frame = Vec::new();
        append_frame(&mut frame, reply.as_bytes());
        client.write_all(&frame).expect("the client reads");
        if channel == "trade" {
            return;
        }
    }
}

fn read_message(client: &mut TcpStream) -> String {
    let mut head = [0; 2];
    client.read_exact(&mut head).expect("a frame");
    let mut length = usize::from(head[1] & 127);
    if length == 126 {
        let mut bytes = [0; 2];
        client.read_exact(&mut bytes).expect("a length");
        length = usize::from(u16::from_be_bytes(bytes));
    }
    let mut mask = [0; 4];
    client.read_exact(&mut mask).expect("a mask");
    let mut payload = vec![0; length];
    client.read_exact(&mut payload).expect("a payload");
    payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
    String::from_utf8_lossy(&payload).into_owned()
}

fn append_trades(out: &mut Vec<u8>, due: u64, message: u64, trades: u64) {
    let mut text = String::from(r#"{"channel":"trade","type":"update","data":["#);
    for trade in 0..trades {
        let comma = if trade == 0 { "" } else { "," };
        let id = message * trades + trade + 1;
        let _ = write!(
            text,
            r#"{comma}{{"symbol":"BTC/USD","side":"buy","price":65000.1,"qty":{due},"ord_type":"limit","trade_id":{id},"timestamp":"2026-01-01T00:00:00.000000Z"}}"#
        );
    }
    text.push_str("]}");
    append_frame(out, text.as_bytes());
}

fn append_frame(out: &mut Vec<u8>, payload: &[u8]) {
    out.push(0x81);
    match payload.len() {
        length @ 0..=125 => out.push(length as u8),
        length @ 126..=65_535 => {
            out.push(126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
}
