//! The server against a plain client: blocking reads, frames cut by hand, serde for the JSON.

use crate::tape::serve::{ClientReport, Options, Server};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;
use xxhash_rust::xxh3::xxh3_64;

fn options() -> Options {
    Options { address: "127.0.0.1:0".into(), symbols: 50, seed: 7, rate: "max".into(), speed: 1, ..Options::default() }
}

struct Plain {
    socket: TcpStream,
}

impl Plain {
    fn connect(server: &Server) -> Self {
        let mut socket = TcpStream::connect(server.address()).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        socket
            .write_all(b"GET /any/path HTTP/1.1\r\nHost: a\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
            .unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            socket.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        assert!(head.starts_with(b"HTTP/1.1 101"));
        Self { socket }
    }

    fn send(&mut self, opcode: u8, text: &str) {
        let mut frame = vec![0x80 | opcode, 0x80 | text.len() as u8, 0, 0, 0, 0];
        frame.extend_from_slice(text.as_bytes());
        self.socket.write_all(&frame).unwrap();
    }

    fn frame(&mut self) -> (u8, Vec<u8>) {
        let mut head = [0; 2];
        self.socket.read_exact(&mut head).unwrap();
        let length = match head[1] {
            126 => {
                let mut more = [0; 2];
                self.socket.read_exact(&mut more).unwrap();
                u64::from(u16::from_be_bytes(more))
            }
            127 => {
                let mut more = [0; 8];
                self.socket.read_exact(&mut more).unwrap();
                u64::from_be_bytes(more)
            }
            short => u64::from(short),
        };
        let mut payload = vec![0; length as usize];
        self.socket.read_exact(&mut payload).unwrap();
        (head[0] & 0x0f, payload)
    }

    fn subscribe(server: &Server, params: &str) -> Self {
        let mut client = Self::connect(server);
        assert!(String::from_utf8(client.frame().1).unwrap().contains("\"connected\""));
        client.send(1, "{\"action\":\"auth\",\"params\":\"KEY\"}");
        assert!(String::from_utf8(client.frame().1).unwrap().contains("auth_success"));
        client.send(1, &format!("{{\"action\":\"subscribe\",\"params\":\"{params}\"}}"));
        assert!(String::from_utf8(client.frame().1).unwrap().contains("\"success\""));
        client
    }

    /// Texts of so many trades.
    fn trades(&mut self, count: usize) -> Vec<String> {
        let mut trades = Vec::new();
        while trades.len() < count {
            let (opcode, payload) = self.frame();
            assert_eq!(opcode, 1);
            let objects: Vec<&serde_json::value::RawValue> = serde_json::from_slice(&payload).unwrap();
            trades.extend(objects.iter().map(|object| object.get().to_string()));
        }
        trades
    }
}

fn checksum(trades: &[String]) -> String {
    format!("{:016x}", trades.iter().fold(0u64, |sum, trade| sum.wrapping_add(xxh3_64(trade.as_bytes()))))
}

/// The report once everything was credited: the last bytes arrive before the account is written.
fn report(server: &Server, client: usize) -> ClientReport {
    for _ in 0..2000 {
        if let Some(report) = server.clients().get(client).filter(|report| report.complete) {
            return report.clone();
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("not complete: {:?}", server.clients());
}

#[test]
fn each_client_gets_the_whole_tape_and_the_accounts_are_exact() {
    let server = Server::start(&Options { trades: Some(30_001), ..options() }).unwrap();
    let mut clients = [0, 1].map(|_| Plain::subscribe(&server, "T.*"));
    let taken = [0, 1].map(|at: usize| clients[at].trades(30_001));
    assert_eq!(taken[0], taken[1]);
    for (at, trades) in taken.iter().enumerate() {
        let report = report(&server, at);
        let bytes: usize = trades.iter().map(String::len).sum();
        assert_eq!((report.trades, report.bytes, report.frames), (30_001, bytes as u64, 235));
        assert_eq!(report.checksum, checksum(trades));
        assert!(trades.windows(2).all(|pair| pair[0] != pair[1]));
    }
    // After the last trade the connection stays and answers.
    clients[0].send(9, "still there");
    assert_eq!(clients[0].frame(), (10, b"still there".to_vec()));
}

#[test]
fn a_tape_that_is_rendered_ahead_is_the_same_one() {
    let served = [false, true].map(|ahead| {
        let options = Options { trades: Some(30_001), no_handshake: true, close: true, ahead, ..options() };
        let server = Server::start(&options).unwrap();
        let mut client = Plain::connect(&server);
        let trades = client.trades(30_001);
        assert_eq!(client.frame(), (8, 1000u16.to_be_bytes().to_vec()));
        let ClientReport { trades: count, bytes, frames, checksum, .. } = report(&server, 0);
        (trades, count, bytes, frames, checksum)
    });
    assert_eq!(served[0], served[1]);
    let refused = Server::start(&Options { ahead: true, ..options() }).err();
    assert!(refused.is_some_and(|why| why.contains("--trades")), "a tape without an end");
}

#[test]
fn a_subscription_to_some_symbols_gives_those() {
    let server = Server::start(&Options { trades: Some(5_000), close: true, ..options() }).unwrap();
    let mut client = Plain::subscribe(&server, "T.AAPL,T.QQQ");
    let mut trades = Vec::new();
    loop {
        match client.frame() {
            (1, payload) => trades.extend(serde_json::from_slice::<Vec<serde_json::Value>>(&payload).unwrap()),
            (opcode, payload) => break assert_eq!((opcode, payload), (8, 1000u16.to_be_bytes().to_vec())),
        }
    }
    assert!(trades.len() > 200);
    assert!(trades.iter().all(|trade| trade["sym"] == "AAPL" || trade["sym"] == "QQQ"));
    assert_eq!(report(&server, 0).trades, trades.len() as u64);
}

#[test]
fn wrong_keys_and_too_many_clients_are_told() {
    let server = Server::start(&Options { key: Some("right".into()), max_connections: Some(1), ..options() }).unwrap();
    let mut client = Plain::connect(&server);
    client.frame();
    let mut second = Plain::connect(&server);
    assert!(String::from_utf8(second.frame().1).unwrap().contains("max_connections"));
    assert_eq!(second.frame().0, 8);
    client.send(1, "{\"action\":\"auth\",\"params\":\"wrong\"}");
    assert!(String::from_utf8(client.frame().1).unwrap().contains("auth_failed"));
    let mut rest = Vec::new();
    assert_eq!(client.socket.read_to_end(&mut rest).unwrap(), 0);
}

#[test]
fn without_a_handshake_data_flows_at_once_and_a_market_is_joined_where_it_is() {
    let options = Options { no_handshake: true, one_market: true, rate: "20000".into(), ..options() };
    let server = Server::start(&options).unwrap();
    let first = Plain::connect(&server).trades(4_000);
    assert!(first[0].contains("\"q\":100000000}"));
    let late = Plain::connect(&server).trades(1);
    let late: serde_json::Value = serde_json::from_str(&late[0]).unwrap();
    assert!(late["q"].as_u64().unwrap() >= 100_004_000, "{late}");
}

#[test]
fn what_is_no_websocket_is_told_so() {
    let server = Server::start(&options()).unwrap();
    let mut socket = TcpStream::connect(server.address()).unwrap();
    socket.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut reply = String::new();
    socket.read_to_string(&mut reply).unwrap();
    assert!(reply.starts_with("HTTP/1.1 400"), "{reply}");
}

#[test]
fn a_client_that_leaves_half_way_was_sent_what_the_kernel_took() {
    let mut server = Server::start(&options()).unwrap();
    let mut client = Plain::subscribe(&server, "T.*");
    let taken = client.trades(10_000).len() as u64;
    drop(client);
    while server.clients()[0].connected {
        std::thread::sleep(Duration::from_millis(5));
    }
    let report = &server.clients()[0];
    assert!(report.trades >= taken && !report.complete, "{report:?}");
    server.stop();
}
