//! Proves kernel TLS against a rustls server in user space on loopback: `ktls_guest MEGABYTES fallback|old|new`.
//!
//! `fallback`: the kernel has no TLS, so rustls decrypts and says why. `old`: it has, but takes no second key (before Linux
//! 6.14). `new`: it takes one. The same with a router in the client's place. Run in a machine of its own by tests/ktls/run.sh;
//! the first two run anywhere they are true.

mod tape;
#[path = "../../tests/support/tls_server.rs"]
mod tls_server;

use std::time::Instant;
use tickplant_core::wire::{Cause, Encryption, KernelSupport, KernelTls, Phase};
use tls_server::{Ending, Feed, Outcome, Server, SUITES};

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let (Some(megabytes), Some(kind)) = (arguments.get(1).and_then(|text| text.parse().ok()), arguments.get(2)) else {
        eprintln!("usage: ktls_guest MEGABYTES fallback|old|new");
        std::process::exit(2);
    };
    println!("kernel: {:?}", KernelSupport::probe());
    let (kind, mut forged) = (kind.as_str(), 0);
    for suite in SUITES {
        let began = Instant::now();
        let server = Server::new(suite, KernelTls::Auto);
        let feed = Feed { bytes: megabytes << 20, ..Feed::default() };
        let outcome = server.run(&feed);
        check_path(kind, suite, &outcome);
        outcome.check_whole(&feed);
        // Tickets of the control channel are kept: the next connection resumes (TLS 1.3), and ends by an alert.
        let feed = Feed { bytes: 1 << 20, ending: Ending::Alert, ..Feed::default() };
        let outcome = server.run(&feed);
        assert!(outcome.resumed, "{suite}: the ticket was lost");
        assert!(outcome.end.contains("alert BadRecordMac"), "{suite}: {}", outcome.end);
        let feed = Feed { bytes: 1 << 20, ending: Ending::Notify, ..Feed::default() };
        let outcome = server.run(&feed);
        assert_eq!(outcome.cause, Cause::Lost { phase: Phase::Open, error: None }, "{suite}: close_notify is an end");
        assert_eq!(decrypt_errors(), forged, "{suite}: the kernel failed to open a sound record");
        let feed = Feed { bytes: 1 << 20, ending: Ending::Forged, ..Feed::default() };
        let end = server.run(&feed).end;
        assert!(end.contains("TLS"), "{suite}: {end}");
        forged += u64::from(kind != "fallback");
        assert_eq!(decrypt_errors(), forged, "{suite}: the forged record was not the kernel's to refuse");
        println!("{suite}: whole, resumed, alert and forgery told ({end}); {:?}", began.elapsed());
        if suite.starts_with("TLS13") {
            key_updates(kind, suite, megabytes);
            tape::over_renewed_keys(kind, suite);
        }
    }
    assert_eq!(decrypt_errors(), forged);
    println!("PROVED {kind}: {forged} records did not open, the forged ones");
}

/// What the kernel counts; nothing where it has no TLS.
fn decrypt_errors() -> u64 {
    let counters = std::fs::read_to_string("/proc/net/tls_stat").unwrap_or_default();
    let count = counters.lines().find_map(|line| line.strip_prefix("TlsDecryptError"));
    count.map_or(0, |count| count.trim().parse().unwrap())
}

fn check_path(kind: &str, suite: &str, outcome: &Outcome) {
    match &outcome.encryption {
        Encryption::UserSpace { why } => {
            assert!(kind == "fallback" && why.contains("modprobe tls"), "{suite}: {why}");
        }
        Encryption::Kernel { rekeys, .. } => assert_eq!(*rekeys, kind == "new", "{suite}"),
        Encryption::None => panic!("{suite}: no TLS"),
    }
}

/// Keys renewed in the middle of the stream, which ask for ours too.
fn key_updates(kind: &str, suite: &str, megabytes: usize) {
    let server = Server::new(suite, KernelTls::Auto);
    let feed = Feed { bytes: megabytes << 20, key_updates: 5, ..Feed::default() };
    let outcome = server.run(&feed);
    if kind != "old" {
        outcome.check_whole(&feed);
        println!("{suite}: whole over {} renewals of keys", feed.key_updates);
        return;
    }
    assert!(matches!(outcome.cause, Cause::KeyRefused { .. }), "{suite}: {}", outcome.end);
    println!("{suite}: {}", outcome.end);
    let outcome = server.run(&feed);
    assert!(matches!(outcome.encryption, Encryption::UserSpace { .. }), "{suite}: the refusal was not remembered");
    outcome.check_whole(&feed);
    println!("{suite}: the next connection is whole in user space");
}
