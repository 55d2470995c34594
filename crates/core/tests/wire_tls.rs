//! TLS end to end against a rustls server, in user space and as the kernel of this machine allows.

#[path = "support/tls_server.rs"]
mod tls_server;

use tickplant_core::wire::{Cause, Encryption, KernelSupport, KernelTls, Phase};
use tls_server::{Ending, Feed, Server, SUITES};

#[test]
fn every_suite_is_whole_whoever_decrypts_and_the_reason_is_told() {
    for suite in SUITES {
        for kernel in [KernelTls::Off, KernelTls::Auto] {
            let feed = Feed { bytes: 2 << 20, ..Feed::default() };
            let outcome = Server::new(suite, kernel).run(&feed);
            outcome.check_whole(&feed);
            match (outcome.encryption, KernelSupport::probe()) {
                (Encryption::UserSpace { why }, _) if kernel == KernelTls::Off => assert_eq!(why, "kernel TLS is off"),
                (Encryption::UserSpace { why }, Err(missing)) => assert_eq!(why, missing),
                (Encryption::Kernel { .. }, Ok(_)) => {}
                other => panic!("{suite} {kernel:?}: {other:?}"),
            }
        }
    }
}

#[test]
fn a_session_is_resumed_and_each_end_has_its_reason() {
    for suite in [SUITES[0], SUITES[3]] {
        let server = Server::new(suite, KernelTls::Auto);
        let outcome = server.run(&Feed { ending: Ending::Notify, ..Feed::default() });
        assert_eq!((outcome.cause, outcome.resumed), (Cause::Lost { phase: Phase::Open, error: None }, false));
        let outcome = server.run(&Feed { ending: Ending::Alert, ..Feed::default() });
        assert!(outcome.resumed && outcome.end.contains("alert BadRecordMac"), "{suite}: {}", outcome.end);
        let outcome = server.run(&Feed { ending: Ending::Forged, ..Feed::default() });
        assert!(matches!(outcome.cause, Cause::Tls { .. }), "{suite}: {}", outcome.end);
    }
}

#[test]
fn renewed_keys_lose_nothing_where_they_are_taken() {
    for suite in &SUITES[..3] {
        let server = Server::new(suite, KernelTls::Auto);
        let feed = Feed { bytes: 2 << 20, key_updates: 5, ..Feed::default() };
        let outcome = server.run(&feed);
        // An old kernel refuses; the next connection then knows.
        match outcome.cause {
            Cause::KeyRefused { .. } => server.run(&feed).check_whole(&feed),
            _ => outcome.check_whole(&feed),
        }
    }
}
