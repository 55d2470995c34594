//! An HTTP proxy that tunnels with `CONNECT`. Whether it is used for a host (`NO_PROXY`) is the caller's decision.

use super::url::Url;
use base64::prelude::{Engine, BASE64_STANDARD};
use std::fmt;

/// A proxy's address, with its user where it wants one. `Debug` and `Display` show no password.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    url: Url,
    authorization: Option<String>,
    /// The address as it was given, for the HTTP fetcher.
    text: String,
}

impl Proxy {
    /// Takes `http://[user:password@]host[:port]`; user and password are percent-decoded.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (url, user) = Url::parse_proxy(text).map_err(|why| format!("the proxy's address is wrong: {why}"))?;
        let authorization = user.map(|user| format!("Basic {}", BASE64_STANDARD.encode(percent_decode(&user))));
        Ok(Self { url, authorization, text: text.to_string() })
    }

    pub fn host(&self) -> &str {
        &self.url.host
    }

    pub fn port(&self) -> u16 {
        self.url.port
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The request that opens a tunnel to the target's host and port.
    pub fn connect_request(&self, target: &Url) -> Vec<u8> {
        let authority = target.authority();
        let mut text = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n");
        if let Some(authorization) = &self.authorization {
            text.push_str(&format!("Proxy-Authorization: {authorization}\r\n"));
        }
        text.push_str("\r\n");
        text.into_bytes()
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.url.authority())
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self}, user: {})", self.authorization.is_some())
    }
}

fn percent_decode(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = match tail {
            [high, low, ..] if *first == b'%' => hex(*high).zip(hex(*low)),
            _ => None,
        };
        match escaped {
            Some((high, low)) => {
                out.push(high * 16 + low);
                rest = &tail[2..];
            }
            None => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    out
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|digit| digit as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tunnel_is_asked_for_with_the_user() {
        let proxy = Proxy::parse("http://me:p%40ss%zz@proxy.local:3128").unwrap();
        let target = Url::parse("wss://venue.example/ws").unwrap();
        let text = String::from_utf8(proxy.connect_request(&target)).unwrap();
        let credentials = BASE64_STANDARD.encode("me:p@ss%zz");
        let wanted = format!(
            "CONNECT venue.example:443 HTTP/1.1\r\nHost: venue.example:443\r\nProxy-Authorization: Basic {credentials}\r\n\r\n"
        );
        assert_eq!(text, wanted);
        assert_eq!(format!("{proxy} {proxy:?}"), "http://proxy.local:3128 Proxy(http://proxy.local:3128, user: true)");
        assert!(Proxy::parse("https://p").unwrap_err().contains("http://"));
    }
}
