//! Who the client is, where proxies that are trusted stand before us.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;

use super::headers::X_FORWARDED_FOR;
use crate::routing::networks::Networks;

/// So many proxies are looked behind; the next one counts as the client.
const HOPS_MAX: usize = 32;

/// The right-most address of `X-Forwarded-For` that is not trusted, beginning with the peer: each trusted proxy is
/// believed what it appended, and nothing left of what is not trusted can be known. Where all of them are trusted,
/// the left-most; at a word that is no address, the one before it.
pub(super) fn client(peer: IpAddr, trusted: &Networks, headers: &HeaderMap) -> IpAddr {
    let lines = headers.get_all(X_FORWARDED_FOR).iter().rev();
    let hops = lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
    let mut client = peer;
    for hop in hops.take(HOPS_MAX) {
        if !trusted.contain(client) {
            break;
        }
        let Some(address) = address(hop) else { break };
        client = address;
    }
    client
}

/// An address as proxies write it: with or without a port, of IPv6 with or without brackets.
fn address(hop: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(hop).ok()?.trim();
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    bare.parse().ok().or_else(with_port).map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn found(peer: &str, lines: &[&'static str]) -> String {
        let trusted = Networks::parse(&["10.0.0.0/8".into(), "2001:db8:1::/48".into()]).expect("two blocks");
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(X_FORWARDED_FOR, HeaderValue::from_static(line));
        }
        client(peer.parse().expect("an address"), &trusted, &headers).to_string()
    }

    #[test]
    fn the_client_is_the_right_most_that_is_not_trusted() {
        for (peer, lines, client) in [
            ("192.0.2.1", &["203.0.113.5"][..], "192.0.2.1"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["203.0.113.5"], "203.0.113.5"),
            ("10.0.0.1", &["198.51.100.1, 203.0.113.5"], "203.0.113.5"),
            ("10.0.0.1", &["203.0.113.5, 10.9.9.9"], "203.0.113.5"),
            ("10.0.0.1", &["203.0.113.5", "10.9.9.9,10.8.8.8"], "203.0.113.5"),
            ("10.0.0.1", &["10.1.1.1, 10.2.2.2"], "10.1.1.1"),
            ("10.0.0.1", &["203.0.113.5, unknown"], "10.0.0.1"),
            ("10.0.0.1", &["203.0.113.5, , 10.2.2.2"], "10.2.2.2"),
            ("10.0.0.1", &["203.0.113.5:4711"], "203.0.113.5"),
            ("10.0.0.1", &["[2001:db8:2::1]:443"], "2001:db8:2::1"),
            ("10.0.0.1", &["2001:db8:2::1, [2001:db8:1::9]"], "2001:db8:2::1"),
            ("::ffff:10.0.0.1", &["::ffff:203.0.113.5"], "203.0.113.5"),
        ] {
            assert_eq!(found(peer, lines), client, "{peer} {lines:?}");
        }
    }

    #[test]
    fn the_walk_is_bounded() {
        let many = Box::leak(format!("203.0.113.5{}", ", 10.1.1.1".repeat(HOPS_MAX)).into_boxed_str());
        assert_eq!(found("10.0.0.1", &[many]), "10.1.1.1");
    }
}
