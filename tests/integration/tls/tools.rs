//! Clients that others have written: OpenSSL and curl.

use std::process::{Command, Stdio};

use crate::harness::Endpoint;
use crate::tls::client::{Files, start, yaml};

/// What it says on both outputs; `None` where it is not installed, and need not be.
fn run(program: &str, arguments: &[&str]) -> Option<(bool, String)> {
    match Command::new(program).args(arguments).stdin(Stdio::null()).output() {
        Ok(output) => {
            let text = [output.stdout, output.stderr].concat();
            Some((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
        }
        // tests/run asks for the tools; a plain `cargo test` may do without.
        Err(error) if std::env::var_os("POINTSMAN_TEST_TOOLS").is_none() => {
            eprintln!("SKIPPED: {program} cannot be run ({error})");
            None
        }
        Err(error) => panic!("{program} cannot be run: {error}"),
    }
}

#[test]
fn curl_speaks_both_protocols_and_shows_its_certificate() {
    let (files, endpoint) = (Files::new(), Endpoint::echo());
    files.issue("a", &["agent.test"]);
    files.issue("me", &["client.test"]);
    let app = start(&yaml(&endpoint, &files.tls(&["a"], &files.client_auth("optional")), ""));
    let at = |name: &str| files.path().join(name).display().to_string();
    let (url, port) = (format!("https://agent.test:{}/a", app.proxy.port()), app.proxy.port());
    let resolve = format!("agent.test:{port}:127.0.0.1");
    let (ca, cert, key) = (at("ca.pem"), at("me.pem"), at("me.key"));
    let base = ["--silent", "--show-error", "--include", "--max-time", "20", "--resolve", &resolve, "--cacert", &ca];
    for (version, status) in [("--http1.1", "HTTP/1.1 200"), ("--http2", "HTTP/2 200"), ("--tls-max", "HTTP/1.1 200")] {
        let version: &[&str] = if version == "--tls-max" { &["--tls-max", "1.2", "--http1.1"] } else { &[version] };
        let shown = ["--cert", &cert, "--key", &key, &url];
        let Some((done, text)) = run("curl", &[&base[..], version, &shown[..]].concat()) else { return };
        assert!(done && text.starts_with(status), "{version:?}: {text}");
        assert!(text.contains(";Subject=\"CN=a holder\";DNS=client.test\n"), "{version:?}: {text}");
        assert!(text.contains("x-forwarded-proto: https\n"), "{version:?}: {text}");
    }
    let (done, text) = run("curl", &[&base[..], &[&url]].concat()).expect("it was there");
    assert!(done && !text.contains("client-cert"), "{text}");
}

#[test]
fn openssl_verifies_what_it_is_shown_and_comes_back() {
    let (files, endpoint) = (Files::new(), Endpoint::saying("x"));
    files.issue("a", &["agent.test"]);
    files.issue("b", &["*.other.test"]);
    let app = start(&yaml(&endpoint, &files.tls(&["a", "b"], ""), ""));
    let at = |name: &str| files.path().join(name).display().to_string();
    let (address, ca, session) = (app.proxy.to_string(), at("ca.pem"), at("session"));
    let connect = |arguments: &[&str]| {
        let base = ["s_client", "-connect", &address, "-CAfile", &ca, "-verify_return_error", "-alpn", "h2,http/1.1"];
        run("openssl", &[&base[..], arguments].concat())
    };
    for version in ["-tls1_2", "-tls1_3"] {
        let named = ["-servername", "x.other.test", "-verify_hostname", "x.other.test", version];
        let Some((done, text)) = connect(&named) else { return };
        assert!(done && text.contains("Verify return code: 0 (ok)"), "{text}");
        assert!(text.contains("ALPN protocol: h2"), "{text}");
    }
    // Under TLS 1.2 a ticket comes within the handshake, so that one is there whenever the client ends.
    for (turn, how) in [("-sess_out", "New, TLSv1.2"), ("-sess_in", "Reused, TLSv1.2")] {
        let (_, text) = connect(&["-tls1_2", "-servername", "agent.test", turn, &session]).expect("it was there");
        assert!(text.contains(how), "{text}");
    }
    let (done, text) = connect(&["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]).expect("it was there");
    assert!(!done, "{text}");
}
