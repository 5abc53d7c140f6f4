use super::*;

#[test]
fn attributes_read_and_show_the_same() {
    let texts = [
        "header:x-user-id",
        "cookie:sid",
        "query:user",
        "json:/user",
        "json:/a~1b/0/m~0n",
        "jwt:sub",
        "jwt:https://example.com/tenant",
        "tls:subject",
        "tls:san",
        "tls:fingerprint",
        "client_ip",
        "request",
        "path",
        "method",
        "host",
    ];
    for text in texts {
        let attribute: Attribute = text.parse().expect(text);
        assert_eq!(attribute.to_string(), text);
    }
    assert_eq!("header:X-User-ID".parse(), Ok(Attribute::Header(HeaderName::from_static("x-user-id"))));
}

#[test]
fn a_wrong_attribute_says_what_was_expected() {
    let table = [
        ("", "one of header:x-user-id"),
        ("haeder:x-user", "did you mean `header:x-user`?"),
        ("clientip", "did you mean `client_ip`?"),
        ("Cookie:sid", "did you mean `cookie:sid`?"),
        ("x-user-id", "one of header:x-user-id, cookie:sid"),
        ("header", "a name after the kind, as in `header:x-user-id`"),
        ("header:", "a name after the kind"),
        ("header:a b", "the name of a header"),
        ("cookie:a;b", "the name of a cookie"),
        ("json:user", "`json:/user`"),
        ("json:/a~2", "`~` is written `~0`"),
        ("tls:serial", "one of tls:subject, tls:san, tls:fingerprint"),
        ("client_ip:v4", "`client_ip` alone"),
    ];
    for (text, expected) in table {
        let error = text.parse::<Attribute>().expect_err(text).to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn schemes_read_and_show_the_same() {
    for scheme in Scheme::ALL {
        assert_eq!(scheme.to_string().parse(), Ok(scheme));
    }
    let error = "SHA-1".parse::<Scheme>().expect_err("not a scheme").to_string();
    assert_eq!(error, "`SHA-1`: expected a scheme: sha1, sha1-js, launchdarkly, murmur3, md5; did you mean `sha1`?");
    assert!("xxhash".parse::<Scheme>().expect_err("not a scheme").nearest.is_none());
}

#[test]
fn endpoint_addresses_are_made_explicit() {
    let table = [
        ("http://127.0.0.1:7001", "http://127.0.0.1:7001", "127.0.0.1:7001"),
        ("http://127.0.0.1:7001/", "http://127.0.0.1:7001", "127.0.0.1:7001"),
        ("HTTP://Agent.Example.COM", "http://agent.example.com:80", "agent.example.com:80"),
        ("http://agent_1", "http://agent_1:80", "agent_1:80"),
        ("http://[::1]:8080", "http://[::1]:8080", "[::1]:8080"),
        ("http://[0:0::1]", "http://[::1]:80", "[::1]:80"),
        ("https://agent.internal", "https://agent.internal:443", "agent.internal:443"),
        ("HTTPS://[::1]:8443/", "https://[::1]:8443", "[::1]:8443"),
        ("unix:/run/agent.sock", "unix:/run/agent.sock", "localhost"),
    ];
    for (text, shown, authority) in table {
        let address: EndpointAddress = text.parse().expect(text);
        assert_eq!(address.to_string(), shown);
        assert_eq!(address.authority(), authority);
        assert_eq!(shown.parse(), Ok(address), "what is shown reads back");
    }
    let host = "http://[::1]:1".parse().expect("an address");
    assert_eq!(EndpointAddress::Http { host: "::1".into(), port: 1 }, host, "no brackets for the resolver");
}

#[test]
fn what_is_no_endpoint_is_refused_with_what_was_expected() {
    let table = [
        ("", "`https://host:port` or `unix:"),
        ("127.0.0.1:7001", "`https://host:port` or `unix:"),
        ("ftp://a", "`https://host:port` or `unix:"),
        ("https://a/v1", "host and port only"),
        ("http://", "a host"),
        ("http://:80", "a host"),
        ("http:///x", "host and port only"),
        ("http://a/v1", "host and port only"),
        ("http://a?x", "host and port only"),
        ("http://a//", "host and port only"),
        ("http://u:p@a", "without user and password"),
        ("http://a:", "a port from 1 to 65535"),
        ("http://a:0", "a port from 1 to 65535"),
        ("http://a:65536", "a port from 1 to 65535"),
        ("http://a:+80", "a port from 1 to 65535"),
        ("http://a:x", "a port from 1 to 65535"),
        ("http://::1:80", "in brackets"),
        ("http://[::1", "closing `]`"),
        ("http://[::g]:80", "an IPv6 address between"),
        ("http://[::1]80", "`:` and a port"),
        ("http://a b", "letters, digits"),
        ("http://ü", "letters, digits"),
        ("unix:run/agent.sock", "absolute path"),
        ("unix:///run/agent.sock", "one slash after `unix:`"),
        ("unix:/run/", "not of a directory"),
        ("unix:", "absolute path"),
    ];
    for (text, expected) in table {
        let error = text.parse::<EndpointAddress>().expect_err(text).to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
    let long = format!("unix:/{}", "x".repeat(107));
    assert!(long.parse::<EndpointAddress>().expect_err("too long").expected.contains("107"));
}

proptest::proptest! {
    /// Nothing that a file may say can make reading panic.
    #[test]
    fn reading_never_panics(text in "\\PC{0,40}") {
        let _ = text.parse::<Attribute>();
        let _ = text.parse::<Scheme>();
        let _ = text.parse::<EndpointAddress>();
        let _ = text.parse::<super::super::ids::Weight>();
    }
}
