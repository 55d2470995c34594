//! The fetcher against scripted servers. TLS and proxies are tested from Python, where certificates are made.

use rustix::event::{poll, PollFd, PollFlags, Timespec};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::fd::BorrowedFd;
use tickplant_core::clock::{MILLISECOND, SECOND};
use tickplant_core::wire::{FetchOptions, FetchPort, FetchReply, FetchRequest, Fetcher};

/// A server that answers one connection with each reply, then holds TCP open where the reply is empty.
fn serve(replies: Vec<&'static str>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/depth?key=secret", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for reply in replies {
            let (mut socket, _) = listener.accept().unwrap();
            let mut request = [0; 4096];
            let count = socket.read(&mut request).unwrap();
            assert!(request.starts_with(b"GET /depth?key=secret HTTP/1.1\r\n"));
            assert!(String::from_utf8_lossy(&request[..count]).contains("x-token: t\r\n"));
            socket.write_all(reply.as_bytes()).unwrap();
            if reply.is_empty() {
                let _ = socket.read(&mut request);
            }
        }
    });
    url
}

fn request(request: u64, url: &str) -> FetchRequest {
    FetchRequest { request, url: url.to_string(), headers: vec![("x-token".into(), "t".into())] }
}

fn wait(port: &mut FetchPort) -> FetchReply {
    loop {
        if let Some(reply) = port.next_reply() {
            return reply;
        }
        // SAFETY: the port outlives this borrow of its descriptor.
        let fd = unsafe { BorrowedFd::borrow_raw(port.fd()) };
        let ready = poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&Timespec { tv_sec: 60, tv_nsec: 0 })).unwrap();
        assert_eq!(ready, 1, "no reply came");
    }
}

#[test]
fn replies_come_to_the_port_that_asked_with_status_wait_and_body() {
    let url = serve(vec![
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        "HTTP/1.1 429 Too Many\r\nRetry-After: 3\r\nContent-Length: 4\r\n\r\nslow",
    ]);
    let fetcher = Fetcher::start(&FetchOptions::default()).unwrap();
    let (mut one, mut two) = (fetcher.port().unwrap(), fetcher.port().unwrap());
    one.fetch(request(7, &url)).unwrap();
    two.fetch(request(8, &url)).unwrap();
    let limited = FetchReply { request: 8, status: 429, retry_after: Some(3 * SECOND), body: b"slow".to_vec() };
    assert_eq!(wait(&mut two), limited);
    assert_eq!(wait(&mut one), FetchReply { request: 7, status: 200, retry_after: None, body: b"{}".to_vec() });
    assert_eq!((one.next_reply(), two.next_reply()), (None, None));
}

#[test]
fn what_is_no_reply_says_why_and_hides_the_query() {
    let options = FetchOptions { body_bytes_max: 3, ..FetchOptions::default() };
    let fetcher = Fetcher::start(&options).unwrap();
    let impatient = Fetcher::start(&FetchOptions { reply_within: 300 * MILLISECOND, ..options }).unwrap();
    let (mut patient, mut impatient) = (fetcher.port().unwrap(), impatient.port().unwrap());
    let long = serve(vec!["HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlong"]);
    let cut = serve(vec!["HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab"]);
    let cases = [
        (long.as_str(), "the body exceeds 3 bytes"),
        (cut.as_str(), ""),
        (&serve(vec![""]), "too long"),
        ("http://127.0.0.1:1/x?key=secret", "connection refused"),
        ("http://no-such-name.invalid/", "lookup address"),
        ("nonsense", ""),
        ("https://127.0.0.1:1/", "connection refused"),
    ];
    for (number, (url, why)) in cases.into_iter().enumerate() {
        let port = if why == "too long" { &mut impatient } else { &mut patient };
        port.fetch(request(number as u64, url)).unwrap();
        let reply = wait(port);
        let text = String::from_utf8(reply.body).unwrap();
        assert_eq!((reply.request, reply.status), (number as u64, 0), "{url} {text}");
        assert!(text.starts_with("no reply from ") && text.contains(why) && !text.contains("secret"), "{url}: {text}");
    }
}

#[test]
fn a_full_queue_gives_the_request_back_and_the_end_breaks_off() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/depth", listener.local_addr().unwrap());
    let options = FetchOptions { queue_max: 1, reply_within: 200 * SECOND, ..FetchOptions::default() };
    let fetcher = Fetcher::start(&options).unwrap();
    let mut port = fetcher.port().unwrap();
    let refused = (0..1000).find_map(|number| port.fetch(request(number, &url)).err());
    assert!(refused.is_some_and(|refused| refused.url == url));
    let (_first_is_under_way, _) = listener.accept().unwrap();
    drop(fetcher);
    assert_eq!(wait(&mut port).status, 0, "long before the reply may take");
}
