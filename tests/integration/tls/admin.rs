//! The admin port with TLS, and `ctl` before it.

use crate::binary::process::{Process, command};
use crate::harness::{App, Endpoint, PATIENCE, admin};
use crate::tls::client::{Client, Files, start};

const ASK: &str = "GET /api/v1/config HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";

fn app(files: &Files, endpoint: &Endpoint) -> App {
    files.issue("admin", &["localhost", "127.0.0.1"]);
    files.issue("me", &["operator.test"]);
    let (tls, url) = (files.tls(&["admin"], &files.client_auth("required")), endpoint.url());
    start(&format!(
        "listeners: [{{ address: '127.0.0.1:0' }}]\nadmin: {{ address: '127.0.0.1:0', {tls} }}\nworkers: 1\n\
         state_dir: none\nagents:\n  bot: {{ versions: {{ 1.0.0: {{ endpoints: ['{url}'] }} }}, stable: 1.0.0 }}\n"
    ))
}

fn answer(client: &Client, app: &App) -> std::io::Result<String> {
    let mut client = client.connect(app.admin, "localhost")?;
    client.write(ASK);
    client.answer()
}

#[test]
fn it_is_asked_over_tls_with_a_certificate_and_not_otherwise() {
    let (files, endpoint) = (Files::new(), Endpoint::saying("x"));
    let app = app(&files, &endpoint);
    let known = files.trusting().showing(&files.ca.issue(&["operator.test"]));
    let text = answer(&known, &app).unwrap();
    assert!(text.starts_with("http/1.1 200 ok\r\n") && text.contains("\"place\":\"admin.tls\""), "{text}");
    assert!(answer(&files.trusting(), &app).is_err());
    let told = admin(app.admin, "GET", "/livez", "");
    assert_eq!((told.status(), told.text()), (400, "this port speaks TLS; ask for https:// instead\r\n"));
}

#[test]
fn ctl_speaks_tls_and_says_who_it_is() {
    let (files, endpoint) = (Files::new(), Endpoint::saying("x"));
    let app = app(&files, &endpoint);
    let at = |name: &str| files.path().join(name).display().to_string();
    let (ca, cert, key) = (at("ca.pem"), at("me.pem"), at("me.key"));
    let ctl = |server: &str, arguments: &[&str]| {
        let base = ["ctl", "--server", server, "agents"];
        Process::start(&mut command(&[&base[..], arguments].concat())).ended(PATIENCE)
    };
    for host in ["localhost", "127.0.0.1"] {
        let server = format!("https://{host}:{}", app.admin.port());
        let done = ctl(&server, &["--cacert", &ca, "--cert", &cert, "--cert-key", &key]);
        assert!(done.code == Some(0) && done.out.contains("bot"), "{done:?}");
    }
    let server = format!("https://localhost:{}", app.admin.port());
    let untrusting = ctl(&server, &["--cert", &cert, "--cert-key", &key]);
    assert!(untrusting.code != Some(0) && untrusting.err.contains("certificate"), "{untrusting:?}");
    let nobody = ctl(&server, &["--cacert", &ca]);
    assert!(nobody.code != Some(0), "{nobody:?}");
    let mixed = ctl(&server, &["--cacert", &key]);
    assert!(mixed.err.contains("me.key: has no certificate"), "{mixed:?}");
}
