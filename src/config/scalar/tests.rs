use std::net::SocketAddr;
use std::time::Duration;

use super::*;
use crate::routing::ids::{AgentId, VersionId, Weight};
use crate::routing::spec::HostPolicy;

/// Reads each text and compares with the value, or with a part of the error.
fn check<T: FromText + PartialEq + std::fmt::Debug>(cases: &[(&str, Result<T, &str>)]) {
    for (text, want) in cases {
        match (T::from_text(text), want) {
            (Ok(value), Ok(want)) => assert_eq!(value, *want, "{text}"),
            (Err(message), Err(part)) => assert!(message.contains(part), "{text}: {message}"),
            (got, want) => panic!("{text}: {got:?} instead of {want:?}"),
        }
    }
}

#[test]
fn durations() {
    check(&[
        ("10m", Ok(Duration::from_secs(600))),
        ("500ms", Ok(Duration::from_millis(500))),
        ("1h30m", Ok(Duration::from_secs(5400))),
        ("1h 30m", Ok(Duration::from_secs(5400))),
        ("2d", Ok(Duration::from_secs(172_800))),
        ("0", Ok(Duration::ZERO)),
        ("0s", Ok(Duration::ZERO)),
        ("10", Err("did you mean `10s` or `10m`?")),
        ("", Err("is no duration")),
        ("10M", Err("is no duration")),
        ("-1s", Err("is no duration")),
        ("1.5h", Err("is no duration")),
        ("ten minutes", Err("expected a duration such as 500ms")),
        ("99999999999999999999d", Err("is no duration")),
        ("9999999999999999999d", Err("is too long")),
    ]);
}

#[test]
fn sizes() {
    check(&[
        ("64KiB", Ok(Bytes(65_536))),
        ("16 MiB", Ok(Bytes(16 << 20))),
        ("0B", Ok(Bytes(0))),
        ("64", Err("did you mean `64B` or `64KiB`?")),
        ("64kB", Err("did you mean `64KiB`?")),
        ("KiB", Err("is no size")),
        ("64bits", Err("expected a size such as 512B")),
        ("99999999999999GiB", Err("is no size")),
    ]);
}

#[test]
fn fractions_and_amounts() {
    check(&[
        ("99.9%", Ok(Fraction(0.999))),
        ("0%", Ok(Fraction(0.0))),
        ("100.1%", Err("more than 100%")),
        ("5", Err("has no percent sign")),
        ("inf%", Err("is no percentage")),
        ("1.2.3%", Err("is no percentage")),
        ("%", Err("is no percentage")),
    ]);
    check(&[
        ("5%", Ok(Amount::Share(0.05))),
        ("3s", Ok(Amount::Time(Duration::from_secs(3)))),
        ("5", Ok(Amount::Number(5.0))),
        ("-1e-3", Ok(Amount::Number(-0.001))),
        ("five", Err("is no duration")),
        ("inf", Err("is no duration")),
        ("1e999", Err("is no duration")),
    ]);
}

#[test]
fn versions() {
    check(&[
        ("1.4.2", Ok(VersionId::new("1.4.2"))),
        ("2.0.0-rc.1+b7", Ok(VersionId::new("2.0.0-rc.1+b7"))),
        ("1.5", Err("did you mean `1.5.0`?")),
        ("2", Err("did you mean `2.0.0`?")),
        ("v1.4.2", Err("did you mean `1.4.2`?")),
        ("latest", Err("expected three numbers such as 1.4.2")),
    ]);
    assert!(!VersionId::from_text("latest").unwrap_err().contains("did you mean"));
}

#[test]
fn addresses_and_hosts() {
    let address = |text: &str| -> SocketAddr { text.parse().unwrap() };
    check(&[
        ("127.0.0.1:8080", Ok(address("127.0.0.1:8080"))),
        ("[::]:0", Ok(address("[::]:0"))),
        (":8080", Err("did you mean `0.0.0.0:8080`?")),
        ("localhost:8080", Err("did you mean `127.0.0.1:8080`?")),
        ("8080", Err("did you mean `127.0.0.1:8080`?")),
        ("0.0.0.0", Err("an IP address and a port")),
    ]);
    check(&[
        ("pass", Ok(HostPolicy::Pass)),
        ("endpoint", Ok(HostPolicy::Endpoint)),
        ("agent.internal:80", Ok(HostPolicy::Fixed("agent.internal:80".into()))),
        ("http://agent", Err("is no host")),
        ("user@agent", Err("is no host")),
    ]);
}

#[test]
fn shares_and_names() {
    check(&[
        ("5%", Ok(Weight::new(5_000).unwrap())),
        ("5", Err("did you mean `5%`?")),
        ("105%", Err("100%")),
        ("0.0001%", Err("0.001%")),
    ]);
    check(&[
        ("support-bot", Ok(AgentId::new("support-bot"))),
        ("a.b_c", Ok(AgentId::new("a.b_c"))),
        ("", Err("is no name for an agent")),
        ("-a", Err("is no name for an agent")),
        ("a b", Err("is no name for an agent")),
    ]);
}
