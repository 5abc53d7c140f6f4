//! Names, versions, addresses and what else is no quantity.

use std::net::SocketAddr;

use http::HeaderName;
use schemars::{Schema, json_schema};

use super::super::errors::shown;
use super::{FromText, pattern};
use crate::control::health::StatusRange;
use crate::routing::ids::{AgentId, EnvironmentId, SegmentId, VersionId};
use crate::routing::spec::{Attribute, EndpointAddress, HostPolicy, Protocol, ResponseId, Scheme};
use crate::tls::server::MinVersion;

impl FromText for VersionId {
    const NAME: &'static str = "VersionName";
    const EXPECTED: &'static str = "a SemVer version such as 1.4.2";
    fn from_text(text: &str) -> Result<Self, String> {
        let valid = |text: &str| text.len() <= 128 && semver::Version::parse(text).is_ok();
        if valid(text) {
            return Ok(Self::new(text));
        }
        let bare = text.trim_start_matches(['v', 'V', '=']);
        let meant = [bare.to_owned(), format!("{bare}.0"), format!("{bare}.0.0")].into_iter().find(|m| valid(m));
        let meant = meant.map(|meant| format!("; did you mean `{meant}`?")).unwrap_or_default();
        Err(format!("`{}` is no SemVer version; expected three numbers such as 1.4.2{meant}", shown(text)))
    }
    fn schema() -> Schema {
        let semver = r"[0-9]+\.[0-9]+\.[0-9]+([-+].*)?";
        pattern(semver, "A version by the rules of SemVer.", &["1.4.2", "2.0.0-rc.1"])
    }
}

/// What names appear in URLs, metric labels and YAML paths can hold without quoting.
fn name(text: &str, what: &str) -> Result<String, String> {
    const LONGEST: usize = 128;
    let first = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    let all = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if first && all && text.len() <= LONGEST {
        return Ok(text.to_owned());
    }
    let text = shown(text);
    Err(format!(
        "`{text}` is no name for {what}; expected up to 128 letters, digits, `-`, `_` and `.`, a letter or digit first"
    ))
}

macro_rules! named {
    ($type:ty, $name:literal, $expected:literal, $what:literal, $example:literal) => {
        impl FromText for $type {
            const NAME: &'static str = $name;
            const EXPECTED: &'static str = $expected;
            fn from_text(text: &str) -> Result<Self, String> {
                name(text, $what).map(Self::new)
            }
            fn schema() -> Schema {
                pattern("[A-Za-z0-9][A-Za-z0-9._-]{0,127}", concat!("The name of ", $what, "."), &[$example])
            }
        }
    };
}
named!(AgentId, "AgentName", "the name of an agent", "an agent", "support-bot");
named!(EnvironmentId, "EnvironmentName", "the name of an environment", "an environment", "production");
named!(SegmentId, "SegmentName", "the name of a segment", "a segment", "beta-users");

impl FromText for MinVersion {
    const NAME: &'static str = "MinVersion";
    const EXPECTED: &'static str = "a version of TLS: \"1.2\" or \"1.3\"";
    fn from_text(text: &str) -> Result<Self, String> {
        match text {
            "1.2" => Ok(Self::Tls12),
            "1.3" => Ok(Self::Tls13),
            _ => {
                Err(format!("`{}` is no version of TLS that is spoken here; expected \"1.2\" or \"1.3\"", shown(text)))
            }
        }
    }
    fn schema() -> Schema {
        json_schema!({ "enum": ["1.2", "1.3", 1.2, 1.3], "description": "A version of TLS." })
    }
}

macro_rules! parsed {
    ($type:ty, $name:literal, $expected:literal, $schema:expr) => {
        impl FromText for $type {
            const NAME: &'static str = $name;
            const EXPECTED: &'static str = $expected;
            fn from_text(text: &str) -> Result<Self, String> {
                text.parse::<Self>().map_err(|error| error.to_string())
            }
            fn schema() -> Schema {
                $schema
            }
        }
    };
}
parsed!(
    Attribute,
    "Attribute",
    "an attribute such as header:x-user-id",
    pattern(
        "(header|cookie|query|json|jwt):.+|client_ip|request|path|method|host",
        "Where a value is taken from. `json` and `request` serve as bucketing keys only.",
        &["header:x-user-id", "cookie:sid", "query:user", "json:/user", "jwt:sub", "client_ip", "request"],
    )
);
parsed!(
    ResponseId,
    "ResponseId",
    "a place in a response such as header:mcp-session-id",
    pattern("(header|json):.+", "Where a response names its conversation.", &["header:mcp-session-id", "json:/id"],)
);
parsed!(
    EndpointAddress,
    "Endpoint",
    "an address such as http://127.0.0.1:7001, https://agent.internal or unix:/run/agent.sock",
    pattern(
        "https?://.+|unix:/.+",
        "An address that serves a version.",
        &["http://127.0.0.1:7001", "https://agent.internal", "unix:/run/agent.sock"]
    )
);
parsed!(
    Scheme,
    "Scheme",
    "a bucketing scheme such as sha1",
    json_schema!({
        "type": "string",
        "description": "How flag, salt and key become a bucket.",
        "enum": Scheme::ALL.map(Scheme::as_str),
    })
);

impl FromText for SocketAddr {
    const NAME: &'static str = "Address";
    const EXPECTED: &'static str = "an address with a port, such as 127.0.0.1:8080";
    fn from_text(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| {
            let meant = match text.split_once(':') {
                Some(("", port)) if port.parse::<u16>().is_ok() => format!("; did you mean `0.0.0.0:{port}`?"),
                Some(("localhost", port)) if port.parse::<u16>().is_ok() => {
                    format!("; did you mean `127.0.0.1:{port}`?")
                }
                None if text.parse::<u16>().is_ok() => format!("; did you mean `127.0.0.1:{text}`?"),
                _ => String::new(),
            };
            format!(
                "`{}` is no address to listen on; expected an IP address and a port, such as 127.0.0.1:8080{meant}",
                shown(text)
            )
        })
    }
    fn schema() -> Schema {
        pattern(r".+:[0-9]+", "An IP address and a port.", &["127.0.0.1:8080", "[::]:8080"])
    }
}

impl FromText for HeaderName {
    const NAME: &'static str = "HeaderName";
    const EXPECTED: &'static str = "the name of a header";
    fn from_text(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| format!("`{}` is no name of a header; expected one such as x-user-id", shown(text)))
    }
    fn schema() -> Schema {
        json_schema!({ "type": "string", "pattern": "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$" })
    }
}

impl FromText for Protocol {
    const NAME: &'static str = "Protocol";
    const EXPECTED: &'static str = "`http1` or `http2`";
    fn from_text(text: &str) -> Result<Self, String> {
        match text {
            "http1" => Ok(Self::Http1),
            "http2" => Ok(Self::Http2),
            _ => Err(format!("`{}` is no protocol; expected {}", shown(text), Self::EXPECTED)),
        }
    }
    fn schema() -> Schema {
        json_schema!({ "type": "string", "enum": ["http1", "http2"] })
    }
}

impl FromText for HostPolicy {
    const NAME: &'static str = "HostPolicy";
    const EXPECTED: &'static str = "`pass`, `endpoint` or a host name";
    fn from_text(text: &str) -> Result<Self, String> {
        match text {
            "pass" => return Ok(Self::Pass),
            "endpoint" => return Ok(Self::Endpoint),
            _ => {}
        }
        let authority = text.parse::<http::uri::Authority>().ok().filter(|authority| !authority.as_str().contains('@'));
        let fixed = authority.map(|authority| Self::Fixed(authority.to_string()));
        fixed
            .ok_or_else(|| format!("`{}` is no host; expected {}, such as agent.internal", shown(text), Self::EXPECTED))
    }
    fn schema() -> Schema {
        json_schema!({
            "type": "string",
            "description": "What the agent sees as `Host`: `pass` what the client sent, `endpoint` the endpoint's own, or a fixed name.",
            "examples": ["pass", "endpoint", "agent.internal"],
        })
    }
}

impl FromText for StatusRange {
    const NAME: &'static str = "StatusRange";
    const EXPECTED: &'static str = "a status such as 200, or a range such as 200-299";
    fn from_text(text: &str) -> Result<Self, String> {
        let (low, high) = text.split_once('-').unwrap_or((text, text));
        let number = |text: &str| text.trim().parse().ok();
        let range = number(low).zip(number(high)).and_then(|(low, high)| Self::new(low, high));
        range.ok_or_else(|| format!("`{}` is no status; expected {}, within 100-599", shown(text), Self::EXPECTED))
    }
    fn schema() -> Schema {
        json_schema!({
            "type": ["string", "integer"],
            "description": "The statuses that are as they should be.",
            "examples": [200, "200-299"],
        })
    }
}

/// The name of a model, or all that begin so.
#[derive(Clone, Debug)]
pub(in crate::config) struct ModelName(pub(in crate::config) String);

impl FromText for ModelName {
    const NAME: &'static str = "ModelName";
    const EXPECTED: &'static str = "the name of a model";
    fn from_text(text: &str) -> Result<Self, String> {
        // As much as is read of an answer's `model`.
        const LONGEST: usize = 128;
        let stem = text.strip_suffix('*').unwrap_or(text);
        let all = stem.bytes().all(|b| b.is_ascii_graphic() && b != b'*');
        if all && !text.is_empty() && text.len() <= LONGEST {
            return Ok(Self(text.to_owned()));
        }
        let expected = "expected up to 128 printable characters, and `*` only as the last of them";
        Err(format!("`{}` is no name of a model; {expected}", shown(text)))
    }
    fn schema() -> Schema {
        pattern(r"[!-)+-~]{1,128}|[!-)+-~]{0,127}\*", "The name of a model.", &["gpt-5-mini", "claude-*", "default"])
    }
}

/// An address, and the path before `/api/v1`.
#[derive(Clone, Debug)]
pub(in crate::config) struct PrometheusUrl {
    pub(in crate::config) address: EndpointAddress,
    pub(in crate::config) prefix: String,
}

impl FromText for PrometheusUrl {
    const NAME: &'static str = "PrometheusUrl";
    const EXPECTED: &'static str = "a URL such as http://127.0.0.1:9090";
    fn from_text(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("`{}` {why}; expected {}", shown(text), Self::EXPECTED);
        let Some((scheme @ ("http" | "https"), rest)) = text.split_once("://") else {
            return Err(wrong("is no http:// or https:// URL"));
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let address =
            format!("{scheme}://{authority}").parse::<EndpointAddress>().map_err(|error| error.to_string())?;
        let prefix = path.trim_end_matches('/').to_owned();
        let is_path = prefix.is_empty() || prefix.parse::<http::uri::PathAndQuery>().is_ok_and(|p| p.query().is_none());
        if !is_path || prefix.contains('#') {
            return Err(wrong("has more than a path after its host"));
        }
        if prefix.ends_with("/api/v1") || prefix.ends_with("/api/v1/query") {
            return Err(wrong("names the API itself, which is found below the server's URL"));
        }
        Ok(Self { address, prefix })
    }
    fn schema() -> Schema {
        pattern(
            "https?://.+",
            "The URL of a Prometheus server.",
            &["http://127.0.0.1:9090", "https://prometheus/prefix"],
        )
    }
}
