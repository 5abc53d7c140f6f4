//! What a certificate says: whose it is, and until when it is good.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};
use x509_parser::x509::{AttributeTypeAndValue, RelativeDistinguishedName};

/// More names of one certificate are not looked at.
const NAMES_MAX: usize = 1_000;

/// A holder of a longer name is not known to us.
const SUBJECT_BYTES: usize = 2 << 10;

/// Of a field that the agent gets with every request.
pub const ELEMENT_BYTES: usize = 4 << 10;

/// What is said of the holder, as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The distinguished name, as RFC 2253 writes it; empty where there is none.
    pub subject: String,
    /// Of the subject's alternative names, those that are URIs.
    pub uris: Vec<String>,
    /// Those that are DNS names, in lower case.
    pub dns: Vec<String>,
    pub not_before: SystemTime,
    pub not_after: SystemTime,
}

impl Certificate {
    pub fn read(der: &[u8]) -> Result<Self, String> {
        let (_, parsed) = X509Certificate::from_der(der).map_err(|error| error.to_string())?;
        let names = parsed.subject_alternative_name().map_err(|error| error.to_string())?;
        let names = names.iter().flat_map(|extension| &extension.value.general_names).take(NAMES_MAX);
        let (mut uris, mut dns) = (Vec::new(), Vec::new());
        for name in names {
            match name {
                GeneralName::URI(uri) => uris.push((*uri).to_owned()),
                GeneralName::DNSName(name) => dns.push(name.to_ascii_lowercase()),
                _ => {}
            }
        }
        // What ended before 1970 is over in any case.
        let at = |timestamp: i64| {
            let seconds = u64::try_from(timestamp).unwrap_or(0);
            UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).unwrap_or(UNIX_EPOCH)
        };
        let validity = parsed.validity();
        let (not_before, not_after) = (at(validity.not_before.timestamp()), at(validity.not_after.timestamp()));
        let subject = subject(&parsed);
        if subject.len() > SUBJECT_BYTES {
            return Err(format!("its subject has more than {SUBJECT_BYTES} bytes"));
        }
        Ok(Self { subject, uris, dns, not_before, not_after })
    }

    pub fn has_expired(&self, now: SystemTime) -> bool {
        self.not_after <= now
    }

    /// Why nobody believes it now.
    pub fn is_bad(&self, now: SystemTime) -> Option<String> {
        let day = humantime::format_rfc3339_seconds;
        if self.has_expired(now) {
            return Some(format!("has expired on {}", day(self.not_after)));
        }
        (now < self.not_before).then(|| format!("is not valid before {}", day(self.not_before)))
    }

    /// Whole days until it ends; negative where it has.
    pub fn days_left(&self, now: SystemTime) -> i64 {
        const DAY: u64 = 86_400;
        let days = |time: Duration| i64::try_from(time.as_secs() / DAY).unwrap_or(i64::MAX);
        match self.not_after.duration_since(now) {
            Ok(left) => days(left),
            Err(over) => -days(over.duration()) - 1,
        }
    }
}

/// A peer, by the certificate that it has shown.
pub struct Holder {
    pub certificate: Certificate,
    /// SHA-256 of the certificate, in hexadecimal.
    pub fingerprint: String,
}

impl Holder {
    pub fn read(der: &[u8]) -> Result<Self, String> {
        let fingerprint = Sha256::digest(der).iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
        Ok(Self { certificate: Certificate::read(der)?, fingerprint })
    }

    /// The one name that it is known by: a URI, or else a DNS name; the first of its kind.
    pub fn san(&self) -> Option<&str> {
        self.certificate.uris.first().or(self.certificate.dns.first()).map(String::as_str)
    }

    /// The element of `x-forwarded-client-cert` for it, as Envoy writes that field: no more of its names than fit
    /// into [`ELEMENT_BYTES`], and none with characters that neither a URI nor a host has.
    pub fn element(&self) -> String {
        let mut element = format!("Hash={};Subject=\"{}\"", self.fingerprint, self.certificate.subject);
        let uris = self.certificate.uris.iter().map(|uri| ("URI", uri));
        let names = uris.chain(self.certificate.dns.iter().map(|name| ("DNS", name)));
        let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
        for (kind, name) in names.filter(|(_, name)| name.bytes().all(is_plain)) {
            if element.len() + name.len() > ELEMENT_BYTES {
                break;
            }
            let quote = if name.contains([',', ';', '=']) { "\"" } else { "" };
            element.push_str(&format!(";{kind}={quote}{name}{quote}"));
        }
        element
    }
}

/// The distinguished name as `openssl x509 -subject -nameopt RFC2253` prints it: the last part first, and all that
/// is special, or not ASCII, behind a backslash; but a quote or backslash by its number, so that in quotes none ends them.
fn subject(parsed: &X509Certificate<'_>) -> String {
    let mut parts: Vec<_> = parsed.subject().iter_rdn().map(part).collect();
    parts.reverse();
    parts.join(",")
}

fn part(part: &RelativeDistinguishedName<'_>) -> String {
    part.iter().map(attribute).collect::<Vec<_>>().join("+")
}

fn attribute(attribute: &AttributeTypeAndValue<'_>) -> String {
    let oid = attribute.attr_type().to_id_string();
    let value = match attribute.as_str() {
        Ok(text) => escaped(text),
        Err(_) => attribute.as_slice().iter().fold("#".to_owned(), |hex, byte| format!("{hex}{byte:02x}")),
    };
    let name = ATTRIBUTES.iter().find(|(known, _)| *known == oid).map_or(oid.as_str(), |(_, name)| name);
    format!("{name}={value}")
}

/// The attributes that have a name (RFC 4514 §3), and the one that is still met.
const ATTRIBUTES: [(&str, &str); 10] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "street"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
];

fn escaped(text: &str) -> String {
    let (mut out, last) = (String::with_capacity(text.len()), text.len().saturating_sub(1));
    for (index, byte) in text.bytes().enumerate() {
        let at_an_end = (index == 0 && matches!(byte, b' ' | b'#')) || (index == last && byte == b' ');
        match byte {
            b'+' | b',' | b';' | b'<' | b'>' => out.extend(['\\', char::from(byte)]),
            b'"' | b'\\' => out.push_str(&format!("\\{byte:02X}")),
            _ if at_an_end => out.extend(['\\', char::from(byte)]),
            b' '..=b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("\\{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::fixture::Authority;

    #[test]
    fn it_says_whose_it_is_and_until_when() {
        let ca = Authority::new("the root");
        let leaf = ca.issue(&["*.Example.com", "a.example", "URI:spiffe://a.example/b"]);
        let read = Certificate::read(leaf.der()).expect("is sound");
        assert_eq!(read.subject, "CN=a holder");
        assert_eq!(read.dns, ["*.example.com", "a.example"]);
        assert_eq!(read.uris, ["spiffe://a.example/b"]);
        assert!(!read.has_expired(SystemTime::now()) && read.has_expired(read.not_after));
        let days = |seconds: i64| {
            let off = Duration::from_secs(seconds.unsigned_abs());
            read.days_left(if seconds < 0 { read.not_after + off } else { read.not_after - off })
        };
        assert_eq!([0, 86_399, 86_400, -1, -86_400].map(days), [0, 0, 1, -1, -2]);
        assert!(Certificate::read(b"none").is_err());
    }

    #[test]
    fn its_holder_is_told_as_envoy_tells_it() {
        let ca = Authority::new("the root");
        let told = |names: &[&str]| {
            let holder = Holder::read(ca.issue(names).der()).expect("is sound");
            assert_eq!(holder.fingerprint.len(), 64);
            (holder.san().map(str::to_owned), holder.element().replace(&holder.fingerprint, "#"))
        };
        let both = told(&["a.example", "URI:spiffe://a/b", "URI:spiffe://c"]);
        let element = "Hash=#;Subject=\"CN=a holder\";URI=spiffe://a/b;URI=spiffe://c;DNS=a.example";
        assert_eq!(both, (Some("spiffe://a/b".into()), element.into()));
        assert_eq!(told(&["b.example", "a.example"]).0.as_deref(), Some("b.example"));
        assert_eq!(told(&[]), (None, "Hash=#;Subject=\"CN=a holder\"".into()));
        let (_, forged) = told(&["URI:urn:a\";Subject=\"CN=root", "URI:urn:a\r\nb: c", "URI:urn:a;DNS=b,By=c"]);
        assert_eq!(forged, "Hash=#;Subject=\"CN=a holder\";URI=\"urn:a;DNS=b,By=c\"");
        let many: Vec<String> = (0..500).map(|index| format!("{index}.example")).collect();
        let (_, long) = told(&many.iter().map(String::as_str).collect::<Vec<_>>());
        assert!((4_000..4_200).contains(&long.len()), "{}", long.len());
    }

    #[test]
    fn no_name_can_be_taken_for_two() {
        assert_eq!(escaped("a, O=b"), "a\\, O=b");
        assert_eq!(escaped("#x \"y\" \\ é "), "\\#x \\22y\\22 \\5C \\C3\\A9\\ ");
        assert_eq!(escaped("a\r\nb\0"), "a\\0D\\0Ab\\00");
    }
}
