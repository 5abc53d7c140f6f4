use super::*;
use http::{HeaderValue, Method};
use proptest::prelude::*;
use serde_json::json;
use std::net::IpAddr;

/// A request head that owns its parts.
struct Request {
    headers: HeaderMap,
    host: String,
    query: Option<String>,
    client: IpAddr,
    certificate: Option<ClientCertificate>,
    json: Option<serde_json::Value>,
}

impl Request {
    fn new() -> Self {
        let client = "192.0.2.7".parse().expect("an address");
        Self { headers: HeaderMap::new(), host: "a.example".into(), query: None, client, certificate: None, json: None }
    }
    fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.append(name, HeaderValue::from_bytes(value.as_bytes()).expect("a header value"));
        self
    }
    fn query(mut self, query: &str) -> Self {
        self.query = Some(query.into());
        self
    }
    fn json(mut self, json: serde_json::Value) -> Self {
        self.json = Some(json);
        self
    }
    fn claims(self, payload: &str) -> Self {
        let token = format!("Bearer e30.{}.c2ln", URL_SAFE_NO_PAD.encode(payload));
        self.header("authorization", &token)
    }
    fn head(&self) -> Head<'_> {
        Head {
            method: &Method::POST,
            host: &self.host,
            path: "/v1/chat",
            query: self.query.as_deref(),
            headers: &self.headers,
            client: self.client,
            certificate: self.certificate.as_ref(),
            json: self.json.as_ref(),
            nonce: 0xabc,
        }
    }
    /// What the attribute says here, as text.
    fn says(&self, attribute: &str) -> Option<String> {
        let value = resolve(&attribute.parse().expect(attribute), &self.head())?;
        Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
    }
}

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

#[track_caller]
fn check(request: &Request, table: &[(&str, Option<&str>)]) {
    for (attribute, expected) in table {
        assert_eq!(request.says(attribute).as_deref(), *expected, "{attribute}");
    }
}

#[test]
fn headers_and_the_request_itself() {
    let request = Request::new().header("x-user", "u1").header("x-user", "u2").header("x-empty", "");
    check(
        &request,
        &[
            ("header:X-User", Some("u1")),
            ("header:x-empty", Some("")),
            ("header:x-none", None),
            ("client_ip", Some("192.0.2.7")),
            ("request", Some("0000000000000abc")),
            ("path", Some("/v1/chat")),
            ("method", Some("POST")),
            ("host", Some("a.example")),
            ("query:x", None),
            ("json:/x", None),
            ("jwt:sub", None),
            ("cookie:sid", None),
        ],
    );
    check(&Request::new().header("x-request-id", "r-1"), &[("request", Some("r-1"))]);
    check(&Request::new().header("x-request-id", ""), &[("request", Some("0000000000000abc"))]);
}

#[test]
fn addresses_and_hosts_have_one_text() {
    let mut request = Request::new();
    request.client = "::ffff:192.0.2.7".parse().expect("an address");
    request.host = "Agent.Example".into();
    check(&request, &[("client_ip", Some("192.0.2.7")), ("host", Some("agent.example"))]);
    request.client = "2001:0db8:0:0:0:0:0:1".parse().expect("an address");
    request.host = format!("{}.EXAMPLE", "a".repeat(60));
    let long = format!("{}.example", "a".repeat(60));
    check(&request, &[("client_ip", Some("2001:db8::1")), ("host", Some(&long))]);
    request.host = String::new();
    check(&request, &[("host", None)]);
}

#[test]
fn cookies() {
    let request = Request::new()
        .header("cookie", "a=1; sid=abc=d;b=2;sidx=no;  spaced = x")
        .header("cookie", "other=\"quoted\"; sid=second; half=\"; empty=; bare;;=noname");
    check(
        &request,
        &[
            ("cookie:sid", Some("abc=d")),
            ("cookie:a", Some("1")),
            ("cookie:b", Some("2")),
            ("cookie:other", Some("quoted")),
            ("cookie:half", Some("\"")),
            ("cookie:empty", Some("")),
            ("cookie:bare", None),
            ("cookie:SID", None),
            ("cookie:si", None),
            ("cookie:spaced", None),
        ],
    );
}

#[test]
fn query_fields() {
    let request =
        Request::new().query("a=1&user=al%20ice+b%2Bc&user=2&us%65r2=x&empty=&bare&odd=%zz%4&n%C3%BC=%ff&a=b=c");
    check(
        &request,
        &[
            ("query:a", Some("1")),
            ("query:user", Some("al ice b+c")),
            ("query:user2", Some("x")),
            ("query:empty", Some("")),
            ("query:bare", Some("")),
            ("query:odd", Some("%zz%4")),
            ("query:nü", Some("\u{fffd}")),
            ("query:none", None),
        ],
    );
    let request = Request::new().query("user=plain");
    let value = resolve(&"query:user".parse().expect("an attribute"), &request.head());
    assert!(matches!(value, Some(Value::Borrowed(b"plain"))), "no copy without escapes");
}

#[test]
fn json_pointers() {
    let request = Request::new().json(json!({
        "user": "u1", "n": 42, "f": 1.5, "whole": 1.0, "yes": true, "none": null,
        "deep": {"er": [{"id": "x"}, -7]}, "a/b": "slash", "m~n": "tilde", "": "empty", "~1": "both"
    }));
    check(
        &request,
        &[
            ("json:/user", Some("u1")),
            ("json:/n", Some("42")),
            ("json:/f", Some("1.5")),
            ("json:/whole", Some("1.0")),
            ("json:/yes", Some("true")),
            ("json:/none", None),
            ("json:/deep", None),
            ("json:/deep/er", None),
            ("json:/deep/er/0/id", Some("x")),
            ("json:/deep/er/1", Some("-7")),
            ("json:/deep/er/01", None),
            ("json:/deep/er/-", None),
            ("json:/deep/er/9", None),
            ("json:/user/x", None),
            ("json:/a~1b", Some("slash")),
            ("json:/m~0n", Some("tilde")),
            ("json:/~01", Some("both")),
            ("json:/", Some("empty")),
        ],
    );
}

#[test]
fn jwt_claims() {
    let request = Request::new().claims(
        r#"{"sub":"u1","n":42,"f":1.0,"neg":-3,"yes":false,"none":null,"roles":["a"],
            "deep":{"er":{"id":"x"}},"https://e.com/t":"ns","a":{"b":"nested"},"a.b":"whole",
            "esc":"\u00fc\n"}"#,
    );
    check(
        &request,
        &[
            ("jwt:sub", Some("u1")),
            ("jwt:n", Some("42")),
            ("jwt:f", Some("1.0")),
            ("jwt:neg", Some("-3")),
            ("jwt:yes", Some("false")),
            ("jwt:none", None),
            ("jwt:roles", None),
            ("jwt:deep", None),
            ("jwt:deep.er.id", Some("x")),
            ("jwt:deep.er", None),
            ("jwt:deep.", None),
            ("jwt:sub.x", None),
            ("jwt:sub.", None),
            ("jwt:su", None),
            ("jwt:https://e.com/t", Some("ns")),
            ("jwt:a.b", Some("whole")),
            ("jwt:esc", Some("ü\n")),
        ],
    );
}

#[test]
fn a_broken_token_has_no_claims() {
    let payload = URL_SAFE_NO_PAD.encode(r#"{"sub":"u1"}"#);
    let broken = [
        String::new(),
        "Bearer".into(),
        "Bearer ".into(),
        "Basic dTpw".into(),
        format!("Bearer {payload}"),
        format!("Bearer e30.{payload}"),
        "Bearer e30..x".into(),
        "Bearer e30.!!!.x".into(),
        format!("Bearer e30.{}.x", URL_SAFE_NO_PAD.encode("not json")),
        format!("Bearer e30.{}.x", URL_SAFE_NO_PAD.encode("\"sub\"")),
        format!("Bearer e30.{}.x", URL_SAFE_NO_PAD.encode(r#"{"sub":"u1""#)),
        format!("Bearer e30.{}.x", URL_SAFE_NO_PAD.encode(r#"{"sub":"u1"} x"#)),
        format!("Bearer e30.{}.x", URL_SAFE_NO_PAD.encode(b"{\"sub\":\"\xff\"}")),
        format!("Bearer e30.{}.x", URL_SAFE_NO_PAD.encode(format!("{{\"a\":{}", "[".repeat(4000)))),
        format!("Bearer e30.{payload}.{}", "x".repeat(JWT_BYTES_MAX)),
    ];
    for header in broken {
        assert_eq!(Request::new().header("authorization", &header).says("jwt:sub"), None, "{header}");
    }
    let good = format!("bEARER  e30.{payload}.c2ln");
    assert_eq!(Request::new().header("authorization", &good).says("jwt:sub").as_deref(), Some("u1"));
    let long = format!(r#"{{"pad":"{}","sub":"u1"}}"#, "x".repeat(5800));
    assert_eq!(Request::new().claims(&long).says("jwt:sub").as_deref(), Some("u1"));
}

#[test]
fn the_first_source_that_is_present_and_not_empty_is_the_key() {
    let sources: Vec<Attribute> = ["header:x-user", "cookie:sid", "query:user"].map(|s| s.parse().expect(s)).into();
    let find = |request: Request| {
        find(&sources, &request.head()).map(|(index, value)| (index, value.as_str().map(str::to_owned)))
    };
    let sid = Some("s1".to_owned());
    assert_eq!(find(Request::new().header("cookie", "sid=s1").query("user=q")), Some((1, sid.clone())));
    assert_eq!(find(Request::new().header("x-user", "").header("cookie", "sid=s1")), Some((1, sid)));
    assert_eq!(find(Request::new().query("user=q")), Some((2, Some("q".into()))));
    assert_eq!(find(Request::new().query("user=")), None);
}

#[test]
fn a_value_keeps_what_does_not_fit_in_place() {
    for length in [0, 1, SHORT_BYTES - 1, SHORT_BYTES, SHORT_BYTES + 1, 500] {
        let text = "x".repeat(length);
        assert_eq!(Value::copied(text.as_bytes()).as_bytes(), text.as_bytes());
        assert_eq!(Value::shown(&text).as_bytes(), text.as_bytes());
    }
}

proptest! {
    /// Nothing that a client may send can make reading panic.
    #[test]
    fn reading_never_panics(
        cookie in prop::collection::vec(0x20_u8..0x7f, 0..60), query in "[a-c=&%+0-9fF]{0,40}",
        authorization in "(Bearer )?[A-Za-z0-9_.-]{0,60}", payload in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        let cookie = String::from_utf8(cookie).expect("ASCII");
        let request = Request::new().header("cookie", &cookie).query(&query).header("authorization", &authorization);
        for attribute in ["cookie:a", "query:a", "query:", "jwt:a", "jwt:a.b"] {
            if let Ok(attribute) = attribute.parse() {
                resolve(&attribute, &request.head());
            }
        }
        let token = format!("Bearer e30.{}.x", URL_SAFE_NO_PAD.encode(payload));
        Request::new().header("authorization", &token).says("jwt:a.b");
    }

    /// What a browser encodes comes back as it was.
    #[test]
    fn encoded_query_values_come_back(value in "\\PC{0,20}") {
        let encoded = percent_encoding::utf8_percent_encode(&value, percent_encoding::NON_ALPHANUMERIC);
        prop_assert_eq!(Request::new().query(&format!("x=1&u={encoded}")).says("query:u"), Some(value));
    }

    /// The claim reader finds what a whole parse finds.
    #[test]
    fn claims_agree_with_a_whole_parse(a in "\\PC{0,60}", n: i64, f in -1e9..1e9_f64, b: bool) {
        let claims = json!({"x": {"a": a, "n": n}, "f": f, "b": b});
        let request = Request::new().claims(&claims.to_string()).json(claims);
        for (jwt, json) in [("jwt:x.a", "json:/x/a"), ("jwt:x.n", "json:/x/n"), ("jwt:f", "json:/f"), ("jwt:b", "json:/b")] {
            prop_assert_eq!(request.says(jwt), request.says(json));
        }
    }
}

#[test]
fn a_client_without_a_certificate_has_none_of_what_it_would_say() {
    let mut request = Request::new();
    assert_eq!(request.says("tls:subject"), None);
    let (subject, fingerprint) = ("CN=a,O=b".to_owned(), "ab".to_owned());
    request.certificate = Some(ClientCertificate { subject, san: None, fingerprint });
    assert_eq!(request.says("tls:subject").as_deref(), Some("CN=a,O=b"));
    assert_eq!(request.says("tls:san"), None);
    assert_eq!(request.says("tls:fingerprint").as_deref(), Some("ab"));
}
