//! What is taken from and added to messages on their way (RFC 9110 §7.6, RFC 7239).

use std::cell::{Cell, OnceCell, RefCell};
use std::net::IpAddr;

use http::HeaderMap;
use http::header::{
    CONNECTION, CONTENT_LENGTH, FORWARDED, HOST, HeaderName, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE,
};

use super::encode::Fields;
use crate::routing::overrides::SIGNATURE_HEADER;

pub(super) use crate::routing::overrides::VERSION_HEADER;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
pub(super) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// Whose certificate the client has shown, as Envoy writes it. What a client says of it itself is always dropped.
pub(super) const X_FORWARDED_CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");

/// Fields that speak of one hop only; an agent neither sees nor sets the version that was chosen for it, nor the
/// proof of one that was asked for.
static HOP_BY_HOP: [HeaderName; 8] =
    [CONNECTION, KEEP_ALIVE, PROXY_CONNECTION, TE, TRANSFER_ENCODING, UPGRADE, VERSION_HEADER, SIGNATURE_HEADER];

/// Takes what speaks of this hop out of an HTTP/2 message. What `Connection` would name is malformed there.
pub(super) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

pub(super) fn is_hop_by_hop(name: &HeaderName) -> bool {
    HOP_BY_HOP.contains(name)
}

/// By its length alone: most fields are ruled out without a comparison.
pub(super) fn may_be_of_this_hop(name: &HeaderName) -> bool {
    matches!(name.as_str().len(), 2 | 7 | 10 | 16 | 17 | 19 | 21)
}

/// The length of the body, where the head tells it.
pub(super) fn declared_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The fields that `Connection` takes off this hop. Most often none, and nothing is allocated.
pub(super) fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    let plain = |v: &HeaderValue| v.as_bytes().eq_ignore_ascii_case(b"keep-alive") || v.as_bytes() == b"close";
    let values = headers.get_all(CONNECTION).iter().filter(|value| !plain(value));
    values.flat_map(|value| named_in(value.as_bytes())).collect()
}

/// The fields that one `Connection` value names.
pub(super) fn named_in(value: &[u8]) -> impl Iterator<Item = HeaderName> {
    let names = value.split(|b| *b == b',').filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok());
    // A client must not be able to take these away from the agent.
    names.filter(|name| ![HOST, CONTENT_LENGTH, FORWARDED, X_FORWARDED_FOR].contains(name))
}

/// Whether a field says something of earlier hops.
pub(super) fn is_of_earlier_hops(name: &HeaderName) -> bool {
    name.as_str().starts_with("x-forwarded-") || *name == X_REAL_IP || *name == FORWARDED
}

/// The forwarding fields of one client connection. What does not change between its requests is made once.
pub(super) struct Forwarded {
    ip: HeaderValue,
    /// Whether what the peer says of earlier hops is passed on.
    trusted: Cell<bool>,
    /// `for=…` with its quotes where the grammar wants them.
    node: String,
    proto: &'static str,
    certificate: OnceCell<HeaderValue>,
    /// The last host seen, and what is written for it where no proxy was before us.
    last: RefCell<Option<(Option<HeaderValue>, Vec<u8>)>>,
}

impl Forwarded {
    /// `tls`: whether the client speaks it.
    pub fn new(ip: IpAddr, trusted: bool, tls: bool) -> Self {
        let ip = ip.to_canonical();
        let node = if ip.is_ipv6() { format!("\"[{ip}]\"") } else { ip.to_string() };
        let ip = HeaderValue::try_from(ip.to_string()).expect("digits, dots and colons");
        let proto = if tls { "https" } else { "http" };
        Self { ip, trusted: Cell::new(trusted), node, proto, certificate: OnceCell::new(), last: RefCell::new(None) }
    }

    /// The client's certificate, known once the handshake is done.
    pub fn set_certificate(&self, field: HeaderValue) {
        let _ = self.certificate.set(field);
    }

    /// Whether [`Forwarded::write`] writes this field.
    pub fn is_field(name: &HeaderName) -> bool {
        [X_FORWARDED_FOR, X_FORWARDED_PROTO, X_FORWARDED_HOST, FORWARDED].contains(name)
    }

    /// Takes out what the peer is not trusted to know of earlier hops, before anything is decided by it.
    pub fn strip(&self, headers: &mut HeaderMap) {
        let barred = |name: &&HeaderName| match name.as_str().len() {
            9 | 12.. => self.bars(name),
            _ => false,
        };
        // Most often none, and nothing is allocated.
        let names: Vec<_> = headers.keys().filter(barred).cloned().collect();
        for name in names {
            headers.remove(name);
        }
    }

    /// Whether this field says something of earlier hops that the peer is not trusted to know.
    fn bars(&self, name: &HeaderName) -> bool {
        let is_told = name == X_FORWARDED_CLIENT_CERT;
        is_told || (!self.trusted.get() && is_of_earlier_hops(name))
    }

    pub fn is_trusted(&self) -> bool {
        self.trusted.get()
    }

    /// The peer is believed from now on, or no more.
    pub fn set_trusted(&self, trusted: bool) {
        if self.trusted.replace(trusted) != trusted {
            self.last.take();
        }
    }

    /// Writes this hop after what earlier proxies wrote in the fields `relayed`, where these are trusted.
    pub fn write(&self, out: &mut Vec<u8>, host: Option<&HeaderValue>, relayed: Option<&HeaderMap>) {
        if self.trusted.get() && relayed.is_some() {
            return self.append(out, host, relayed);
        }
        let mut last = self.last.borrow_mut();
        if last.as_ref().is_none_or(|(known, _)| known.as_ref() != host) {
            let mut block = Vec::new();
            self.append(&mut block, host, None);
            *last = Some((host.cloned(), block));
        }
        out.extend_from_slice(last.as_ref().map_or(&[], |(_, block)| block));
    }

    /// The same, anew each time, to wherever.
    pub fn append(&self, out: &mut impl Fields, host: Option<&HeaderValue>, relayed: Option<&HeaderMap>) {
        let relayed = relayed.filter(|_| self.trusted.get());
        let earlier = |name: HeaderName| relayed.into_iter().flat_map(move |headers| headers.get_all(&name));
        let first = |name: HeaderName| relayed.and_then(|headers| headers.get(name));
        out.put_list(&X_FORWARDED_FOR, earlier(X_FORWARDED_FOR), self.ip.as_bytes());
        // Of an outer proxy's scheme and host the first word stands.
        let proto = HeaderValue::from_static(self.proto);
        out.put(&X_FORWARDED_PROTO, first(X_FORWARDED_PROTO).unwrap_or(&proto));
        if let Some(host) = first(X_FORWARDED_HOST).or(host) {
            out.put(&X_FORWARDED_HOST, host);
        }
        out.put_list(&FORWARDED, earlier(FORWARDED), self.element(host).as_bytes());
        if let Some(certificate) = self.certificate.get() {
            out.put(&X_FORWARDED_CLIENT_CERT, certificate);
        }
    }

    fn element(&self, host: Option<&HeaderValue>) -> String {
        match host.and_then(|host| host.to_str().ok()) {
            // A quote or backslash cannot be in a valid host; such a one is left out rather than escaped.
            Some(text) if !text.is_empty() && !text.contains(['"', '\\']) => {
                format!("for={};host=\"{text}\";proto={}", self.node, self.proto)
            }
            _ => format!("for={};proto={}", self.node, self.proto),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn written(forwarded: &Forwarded, host: &'static str, relayed: Option<&HeaderMap>) -> String {
        let mut out = Vec::new();
        forwarded.write(&mut out, Some(&HeaderValue::from_static(host)), relayed);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn no_hop_by_hop_field_is_ruled_out_by_its_length() {
        assert!(HOP_BY_HOP.iter().all(may_be_of_this_hop));
    }

    #[test]
    fn connection_cannot_take_away_what_the_agent_relies_on() {
        let headers =
            map(&[("connection", "keep-alive"), ("connection", "host, X-Secret, x-forwarded-for, content-length")]);
        assert_eq!(named_by_connection(&headers), ["x-secret"]);
    }

    #[test]
    fn this_hop_is_written_for_each_host() {
        let forwarded = Forwarded::new("192.0.2.9".parse().unwrap(), false, false);
        for host in ["a.example", "a.example", "b.example:81"] {
            let expected = format!(
                "x-forwarded-for: 192.0.2.9\r\nx-forwarded-proto: http\r\nx-forwarded-host: {host}\r\n\
                 forwarded: for=192.0.2.9;host=\"{host}\";proto=http\r\n"
            );
            assert_eq!(written(&forwarded, host, None), expected);
            let claimed = map(&[("x-forwarded-for", "10.0.0.1"), ("forwarded", "for=10.0.0.1")]);
            assert_eq!(written(&forwarded, host, Some(&claimed)), expected, "a stranger's word is nothing");
        }
    }

    #[test]
    fn a_stranger_says_nothing_of_earlier_hops() {
        let by = |trusted| Forwarded::new("192.0.2.9".parse().unwrap(), trusted, false);
        for name in ["x-forwarded-port", "x-forwarded-prefix", "x-real-ip"] {
            let name = HeaderName::from_static(name);
            assert!(by(false).bars(&name) && !by(true).bars(&name), "{name}");
        }
        assert!(!by(false).bars(&HeaderName::from_static("x-request-id")));
    }

    #[test]
    fn over_tls_the_scheme_and_the_certificate_are_told() {
        let forwarded = Forwarded::new("192.0.2.9".parse().unwrap(), false, true);
        forwarded.set_certificate(HeaderValue::from_static("Hash=ab"));
        let expected = "x-forwarded-for: 192.0.2.9\r\nx-forwarded-proto: https\r\nx-forwarded-host: a.example\r\n\
                        forwarded: for=192.0.2.9;host=\"a.example\";proto=https\r\n\
                        x-forwarded-client-cert: Hash=ab\r\n";
        assert_eq!(written(&forwarded, "a.example", None), expected);
    }

    #[test]
    fn this_hop_is_appended_to_earlier_ones() {
        let forwarded = Forwarded::new("2001:db8::7".parse().unwrap(), true, false);
        let earlier = map(&[
            ("x-forwarded-for", "192.0.2.1"),
            ("x-forwarded-for", "192.0.2.2"),
            ("forwarded", "for=192.0.2.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "outer"),
        ]);
        let expected = "x-forwarded-for: 192.0.2.1, 192.0.2.2, 2001:db8::7\r\nx-forwarded-proto: https\r\n\
                        x-forwarded-host: outer\r\n\
                        forwarded: for=192.0.2.1, for=\"[2001:db8::7]\";host=\"inner\";proto=http\r\n";
        assert_eq!(written(&forwarded, "inner", Some(&earlier)), expected);
    }
}
