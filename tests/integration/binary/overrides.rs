//! `pointsman override sign`, and the proxy that honours it.

use super::process::{File, Process, Proxy, command, pointsman};
use crate::harness::{Endpoint, PATIENCE, PORTS, Wire};

const KEYS: &str = "overrides: { keys: [{ id: new, secret: 'a new secret of thirty-two bytes..' }, { id: old, secret: 'an old secret of thirty-two bytes.' }] }\n";

fn sign(file: &File, arguments: &[&str]) -> super::process::Ended {
    let fixed = ["override", "sign", "--agent", "bot", "--version", "2.0.0", "-c", file.path()];
    pointsman(&[&fixed, arguments].concat())
}

#[test]
fn what_is_signed_is_honoured_by_file_and_by_environment() {
    let (stable, canary) = (Endpoint::saying("old"), Endpoint::saying("new"));
    let file = File::new(&format!(
        "{PORTS}{KEYS}agents: {{ bot: {{ versions: {{ 1.0.0: {{ endpoints: ['{}'] }}, 2.0.0: {{ endpoints: ['{}'] }} }}, stable: 1.0.0 }} }}\n",
        stable.url(),
        canary.url()
    ));
    let proxy = Proxy::with_file(&file.path);
    let ask = |fields: &str| {
        Wire::connect(proxy.proxy).ask(&format!("GET / HTTP/1.1\r\nhost: a.test\r\n{fields}\r\n")).version().to_owned()
    };
    assert_eq!(ask(""), "1.0.0");
    let mut by_environment = command(&["override", "sign", "--agent=*", "--version=2.0.0", "--key-id=old"]);
    by_environment.env("POINTSMAN_OVERRIDE_SECRET", "an old secret of thirty-two bytes.");
    let by_environment = Process::start(&mut by_environment).ended(PATIENCE);
    for signed in [sign(&file, &[]), sign(&file, &["--key-id", "old", "--expires", "30m"]), by_environment] {
        assert_eq!(signed.code, Some(0), "{signed:?}");
        assert!(signed.err.contains("curl -H") && !signed.err.contains("warning"), "{signed:?}");
        let fields: String = signed.out.lines().map(|line| format!("{line}\r\n")).collect();
        assert_eq!(ask(&fields), "2.0.0", "{signed:?}");
    }
}

#[test]
fn what_cannot_be_signed_says_why() {
    let file = File::new(&format!(
        "listeners: [{{ address: 0.0.0.0:8099 }}]\n{KEYS}agents: {{ bot: {{ versions: {{ 1.0.0: {{ endpoints: [] }} }}, stable: 1.0.0 }} }}\n"
    ));
    let unknown = sign(&file, &[]);
    assert!(unknown.code == Some(0) && unknown.err.contains("has no version 2.0.0 of bot"), "{unknown:?}");
    assert!(unknown.err.contains(" http://127.0.0.1:8099/"), "{unknown:?}");
    let no_key = sign(&file, &["--key-id", "none"]);
    assert!(no_key.code == Some(1) && no_key.err.contains("has no key \"none\""), "{no_key:?}");
    let too_long = sign(&file, &["--expires", "90d"]);
    assert!(too_long.code == Some(2) && too_long.err.contains("expected 1s to 30d"), "{too_long:?}");
    let keyless = sign(&File::new("agents: {}\n"), &[]);
    assert!(keyless.code == Some(1) && keyless.err.contains("overrides"), "{keyless:?}");
    let mut short = command(&["override", "sign", "--agent=bot", "--version=2.0.0", "--key-id=old"]);
    let short = Process::start(short.env("POINTSMAN_OVERRIDE_SECRET", "short")).ended(PATIENCE);
    assert!(short.code == Some(1) && short.err.contains("at least 32 bytes"), "{short:?}");
}
