//! What must hold of the handshake's parsers whatever a peer sends.

use tickplant_core::wire::handshake::{parse_connect, parse_upgrade, Request};
use tickplant_core::wire::{Proxy, Url};

/// No panic, and an answer that stood with less does not go away with more.
pub fn take(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(url) = Url::parse(&text) {
        assert!(!url.host.is_empty() && url.target.starts_with('/') && !url.host_header().contains(['\r', '\n']));
    }
    let _ = Proxy::parse(&text);
    let request = Request::default();
    let key = "dGhlIHNhbXBsZSBub25jZQ==";
    let mut before = None;
    for length in (0..=data.len()).step_by(1 + data.len() / 16).chain([data.len()]) {
        let bytes = &data[..length];
        let now = (parse_upgrade(bytes, false, key, &request), parse_connect(bytes, false));
        if let Some((Ok(Some(_)), _)) = &before {
            assert_eq!(before.as_ref().map(|before: &(_, _)| &before.0), Some(&now.0));
        }
        // At its end a reply is good or refused, never undecided.
        assert!(!matches!(parse_upgrade(bytes, true, key, &request), Ok(None)));
        assert!(!matches!(parse_connect(bytes, true), Ok(None)));
        before = Some(now);
    }
}
