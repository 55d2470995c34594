//! The addresses that the wire takes: `ws://` and `wss://`, and `http://` for a proxy.

/// Where a connection goes, cut into what the handshake needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    pub tls: bool,
    /// A name or an IP address; an IPv6 address without its brackets.
    pub host: String,
    pub port: u16,
    /// Path and query as they go into the request line, at least `/`.
    pub target: String,
    user: Option<String>,
}

impl Url {
    /// Takes `ws://`, `wss://`. The text of the error says what is wrong with it.
    pub fn parse(url: &str) -> Result<Self, String> {
        let parsed = Self::parse_scheme(url, &[("wss://", true, 443), ("ws://", false, 80)])?;
        match parsed.user {
            Some(_) => Err("a user name in a WebSocket address is not sent: use a header or the venue's login".into()),
            None => Ok(parsed),
        }
    }

    /// Takes `http://user:password@host:port`: the address of a proxy and its user, if any.
    pub(super) fn parse_proxy(url: &str) -> Result<(Self, Option<String>), String> {
        let mut parsed = Self::parse_scheme(url, &[("http://", false, 80)])?;
        let user = parsed.user.take();
        Ok((parsed, user))
    }

    fn parse_scheme(url: &str, schemes: &[(&str, bool, u16)]) -> Result<Self, String> {
        let scheme =
            schemes.iter().find(|(scheme, ..)| url.get(..scheme.len()).is_some_and(|s| s.eq_ignore_ascii_case(scheme)));
        let Some((scheme, tls, port)) = scheme else {
            let names: Vec<_> = schemes.iter().map(|(scheme, ..)| *scheme).collect();
            return Err(format!("it must begin with {}", names.join(" or ")));
        };
        if url.bytes().any(|byte| byte <= b' ' || byte >= 0x7f) {
            return Err("it holds a space, a control character or a letter beyond ASCII: percent-encode it".into());
        }
        let rest = url.split('#').next().unwrap_or_default();
        let rest = rest.get(scheme.len()..).unwrap_or_default();
        let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (user, place) = match authority.rsplit_once('@') {
            Some((user, place)) => (Some(user.to_string()), place),
            None => (None, authority),
        };
        let (host, port) = split_port(place, *port)?;
        let target = if target.starts_with('/') { target.to_string() } else { format!("/{target}") };
        Ok(Self { tls: *tls, host, port, target, user })
    }

    /// Host and port as they stand in a `CONNECT` line.
    pub fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }

    /// The `Host` header: the port only where it is not the scheme's own.
    pub fn host_header(&self) -> String {
        let authority = self.authority();
        let usual = if self.tls { ":443" } else { ":80" };
        authority.strip_suffix(usual).unwrap_or(&authority).to_string()
    }

    /// Scheme, host and port, without the path: for people. A path or query may hold a secret.
    pub fn place(&self) -> String {
        format!("{}://{}", if self.tls { "wss" } else { "ws" }, self.authority())
    }
}

fn split_port(place: &str, usual: u16) -> Result<(String, u16), String> {
    let (host, port) = match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) => (host, port),
        None => place.split_at(place.find(':').unwrap_or(place.len())),
    };
    if host.is_empty() {
        return Err("it names no host".into());
    }
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => usual,
        Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
            port.parse().ok().filter(|&port| port > 0).ok_or_else(|| format!("{port} is no port"))?
        }
        _ => return Err(format!("{port:?} after the host is no port")),
    };
    Ok((host.to_string(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_cut_where_they_should() {
        let url = Url::parse("wss://stream.example:9443/ws?streams=a/b#x").unwrap();
        assert_eq!(
            (url.tls, url.host.as_str(), url.port, url.target.as_str()),
            (true, "stream.example", 9443, "/ws?streams=a/b")
        );
        assert_eq!(url.host_header(), "stream.example:9443");
        assert_eq!(Url::parse("WS://h").unwrap().target, "/");
        assert_eq!(Url::parse("ws://h?a").unwrap().target, "/?a");
        let url = Url::parse("wss://[::1]/x").unwrap();
        assert_eq!(
            (url.authority().as_str(), url.host_header().as_str(), url.host.as_str()),
            ("[::1]:443", "[::1]", "::1")
        );
        let (proxy, user) = Url::parse_proxy("http://me:pa@ss@proxy:3128").unwrap();
        assert_eq!((proxy.host.as_str(), proxy.port, user.as_deref()), ("proxy", 3128, Some("me:pa@ss")));
    }

    #[test]
    fn wrong_addresses_say_why() {
        for (url, part) in [
            ("http://x", "must begin"),
            ("ws://", "no host"),
            ("ws://:80", "no host"),
            ("ws://h:0", "no port"),
            ("ws://h:65536", "no port"),
            ("ws://h:+1", "no port"),
            ("ws://h:x", "no port"),
            ("ws://[::1]x", "no port"),
            ("ws://a b", "space"),
            ("ws://h/\r\nX: y", "space"),
            ("ws://u@h", "user name"),
            ("\u{20ac}", "must begin"),
        ] {
            let error = Url::parse(url).unwrap_err();
            assert!(error.contains(part), "{url}: {error}");
        }
    }
}
