//! What is taken from and added to messages on their way (RFC 9110 §7.6, RFC 7239).

use std::cell::RefCell;
use std::net::IpAddr;

use http::header::{
    CONNECTION, CONTENT_LENGTH, FORWARDED, HOST, HeaderName, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, Method};

pub(super) const VERSION_HEADER: HeaderName = HeaderName::from_static("x-pointsman-version");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

const HOPS: usize = 7;
const TRANSFER_ENCODING_AT: usize = 4;
/// Fields that speak of one hop only; an agent neither sees nor sets the version that was chosen for it.
static HOP_BY_HOP: [HeaderName; HOPS] =
    [CONNECTION, KEEP_ALIVE, PROXY_CONNECTION, TE, TRANSFER_ENCODING, UPGRADE, VERSION_HEADER];

/// Removes what is not for the next hop: hop-by-hop fields, those that `Connection` names, and our own.
pub(super) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    // One walk over the few fields present beats a look-up of each absent one.
    let mut present = [false; HOPS];
    for name in headers.keys().filter(|name| may_be_hop_by_hop(name)) {
        if let Some(index) = HOP_BY_HOP.iter().position(|hop| hop == name) {
            present[index] = true;
        }
    }
    if present[0] {
        strip_named_by_connection(headers);
    }
    if present[TRANSFER_ENCODING_AT] {
        // RFC 9112 §6.3: the coding frames the body, and a length beside it must not be passed on.
        headers.remove(CONTENT_LENGTH);
    }
    for (name, _) in HOP_BY_HOP.iter().zip(present).filter(|(_, present)| *present) {
        headers.remove(name);
    }
}

/// By its length alone: most fields are ruled out without a comparison.
fn may_be_hop_by_hop(name: &HeaderName) -> bool {
    matches!(name.as_str().len(), 2 | 7 | 10 | 16 | 17 | 19)
}

fn strip_named_by_connection(headers: &mut HeaderMap) {
    let plain = |v: &HeaderValue| v.as_bytes().eq_ignore_ascii_case(b"keep-alive") || v.as_bytes() == b"close";
    if headers.get_all(CONNECTION).iter().all(plain) {
        return;
    }
    let values = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let named: Vec<HeaderName> = values
        .flat_map(|value| value.split(','))
        .filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok())
        // A client must not be able to take these away from the agent.
        .filter(|name| ![HOST, CONTENT_LENGTH, FORWARDED, X_FORWARDED_FOR].contains(name))
        .collect();
    for name in named {
        headers.remove(name);
    }
}

/// hyper frames the body itself, but for these methods it takes an unframed body to be none.
pub(super) fn keep_chunked_framing(headers: &mut HeaderMap, method: &Method, has_body: bool) {
    if has_body && matches!(*method, Method::GET | Method::HEAD) && !headers.contains_key(CONTENT_LENGTH) {
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}

/// The forwarding fields of one client connection. What does not change between its requests is made once.
pub(super) struct Forwarded {
    ip: HeaderValue,
    /// `for=…` with its quotes where the grammar wants them.
    node: String,
    /// The `Forwarded` element for the last host seen.
    last: RefCell<Option<(HeaderValue, HeaderValue)>>,
}

impl Forwarded {
    pub fn new(ip: IpAddr) -> Self {
        let ip = ip.to_canonical();
        let node = if ip.is_ipv6() { format!("\"[{ip}]\"") } else { ip.to_string() };
        let ip = HeaderValue::try_from(ip.to_string()).expect("digits, dots and colons");
        Self { ip, node, last: RefCell::new(None) }
    }

    /// Adds this hop to what earlier proxies wrote.
    pub fn append_to(&self, headers: &mut HeaderMap, host: Option<&HeaderValue>) {
        append(headers, X_FORWARDED_FOR, &self.ip);
        headers.entry(X_FORWARDED_PROTO).or_insert(HeaderValue::from_static("http"));
        if let Some(host) = host {
            headers.entry(X_FORWARDED_HOST).or_insert_with(|| host.clone());
        }
        let element = self.element(host);
        append(headers, FORWARDED, &element);
    }

    fn element(&self, host: Option<&HeaderValue>) -> HeaderValue {
        let empty = HeaderValue::from_static("");
        let host = host.unwrap_or(&empty);
        let mut last = self.last.borrow_mut();
        if let Some((known, element)) = last.as_ref()
            && known == host
        {
            return element.clone();
        }
        let element = match host.to_str() {
            // A quote or backslash cannot be in a valid host; such a one is left out rather than escaped.
            Ok(text) if !text.is_empty() && !text.contains(['"', '\\']) => {
                format!("for={};host=\"{text}\";proto=http", self.node)
            }
            _ => format!("for={};proto=http", self.node),
        };
        let element = HeaderValue::try_from(element).expect("visible characters only");
        *last = Some((host.clone(), element.clone()));
        element
    }
}

/// Appends to a comma-separated list field.
fn append(headers: &mut HeaderMap, name: HeaderName, value: &HeaderValue) {
    match headers.entry(name) {
        http::header::Entry::Vacant(entry) => {
            entry.insert(value.clone());
        }
        http::header::Entry::Occupied(mut entry) => {
            let mut joined = Vec::new();
            for earlier in entry.iter() {
                joined.extend_from_slice(earlier.as_bytes());
                joined.extend_from_slice(b", ");
            }
            joined.extend_from_slice(value.as_bytes());
            if let Ok(joined) = HeaderValue::from_bytes(&joined) {
                entry.insert(joined);
            }
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

    #[test]
    fn hop_by_hop_fields_go_and_the_rest_stays() {
        let mut headers = map(&[
            ("connection", "close, X-Secret"),
            ("x-secret", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("x-kept", "1"),
        ]);
        strip_hop_by_hop(&mut headers);
        assert_eq!(headers, map(&[("x-kept", "1")]));
    }

    #[test]
    fn no_hop_by_hop_field_is_ruled_out_by_its_length() {
        assert!(HOP_BY_HOP.iter().all(may_be_hop_by_hop));
        assert_eq!(HOP_BY_HOP[TRANSFER_ENCODING_AT], TRANSFER_ENCODING);
    }

    #[test]
    fn connection_cannot_take_away_what_the_agent_relies_on() {
        let mut headers = map(&[
            ("connection", "host, x-forwarded-for, content-length"),
            ("host", "a"),
            ("x-forwarded-for", "1.2.3.4"),
        ]);
        strip_hop_by_hop(&mut headers);
        assert_eq!(headers, map(&[("host", "a"), ("x-forwarded-for", "1.2.3.4")]));
    }

    #[test]
    fn this_hop_is_appended_to_earlier_ones() {
        let forwarded = Forwarded::new("2001:db8::7".parse().unwrap());
        let mut headers =
            map(&[("x-forwarded-for", "192.0.2.1"), ("x-forwarded-for", "192.0.2.2"), ("forwarded", "for=192.0.2.1")]);
        forwarded.append_to(&mut headers, Some(&HeaderValue::from_static("example.com:8080")));
        assert_eq!(headers["x-forwarded-for"], "192.0.2.1, 192.0.2.2, 2001:db8::7");
        assert_eq!(headers.get_all("x-forwarded-for").iter().count(), 1);
        assert_eq!(headers["forwarded"], "for=192.0.2.1, for=\"[2001:db8::7]\";host=\"example.com:8080\";proto=http");
        assert_eq!(headers["x-forwarded-host"], "example.com:8080");
        assert_eq!(headers["x-forwarded-proto"], "http");
    }

    #[test]
    fn an_outer_proxy_s_scheme_and_host_are_kept() {
        let mut headers = map(&[("x-forwarded-proto", "https"), ("x-forwarded-host", "outer")]);
        Forwarded::new("192.0.2.9".parse().unwrap()).append_to(&mut headers, Some(&HeaderValue::from_static("inner")));
        assert_eq!(
            (&headers["x-forwarded-proto"], &headers["x-forwarded-host"]),
            (&HeaderValue::from_static("https"), &HeaderValue::from_static("outer"))
        );
    }
}
