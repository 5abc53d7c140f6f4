//! `pointsman token` beside a running instance.

use std::net::SocketAddr;

use super::process::{File, Proxy, pointsman};
use crate::harness::{PORTS, Wire};

const AGENT: &str = "agents: { bot: { versions: { 1.0.0: { endpoints: [] } }, stable: 1.0.0 } }\n";

/// The status of a look at the table with this token, or with none.
fn look(admin: SocketAddr, token: &str) -> u16 {
    let authorization = if token.is_empty() { String::new() } else { format!("authorization: Bearer {token}\r\n") };
    let head = format!("GET /api/v1/table HTTP/1.1\r\nhost: {admin}\r\nconnection: close\r\n{authorization}\r\n");
    Wire::connect(admin).ask(&head).status()
}

#[test]
fn tokens_are_made_listed_and_revoked_while_it_runs() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().to_str().unwrap();
    let file = File::new(&format!("{}{AGENT}", PORTS.replace("state_dir: none", &format!("state_dir: {state}"))));
    let proxy = Proxy::with_file(&file.path);
    assert_eq!(look(proxy.admin, ""), 200, "on loopback, before there is any token");

    let made =
        pointsman(&["token", "create", "--name", "ci", "--role", "viewer", "--expires", "90d", "-c", file.path()]);
    assert_eq!(made.code, Some(0), "{made:?}");
    let token = made.out.trim();
    assert!(made.out.lines().count() == 1 && made.err.contains("not shown again"), "{made:?}");
    assert_eq!((look(proxy.admin, ""), look(proxy.admin, token), look(proxy.admin, "other")), (401, 200, 401));

    let twice = pointsman(&["token", "create", "--name", "ci", "--role", "admin", "--state-dir", state]);
    assert!(twice.code == Some(1) && twice.err.contains("revoke it first"), "{twice:?}");
    let listed = pointsman(&["token", "list", "--state-dir", state]);
    assert!(listed.out.contains("ci") && listed.out.contains("viewer") && !listed.out.contains(token), "{listed:?}");
    let listed = pointsman(&["token", "list", "--json", "--state-dir", state]);
    let listed: serde_json::Value = serde_json::from_str(&listed.out).unwrap();
    assert_eq!((&listed[0]["name"], &listed[0]["role"]), (&"ci".into(), &"viewer".into()));

    let revoked = pointsman(&["token", "revoke", "ci", "--state-dir", state]);
    assert_eq!(revoked.code, Some(0), "{revoked:?}");
    assert_eq!((look(proxy.admin, ""), look(proxy.admin, token)), (401, 401));
    let ended = proxy.stop();
    assert!(!ended.err.contains(token), "no token is in the log");
}

#[test]
fn what_a_token_cannot_be_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().to_str().unwrap();
    let cases: [(&[&str], &str); 4] = [
        (&["--name", "a b", "--role", "viewer"], "letters, digits"),
        (&["--name", "ci", "--role", "root"], "viewer, operator, admin"),
        (&["--name", "ci", "--role", "viewer", "--expires", "soon"], "such as 90d"),
        (&["--name", "file", "--role", "viewer"], "meaning of its own"),
    ];
    for (arguments, said) in cases {
        let ended = pointsman(&[&["token", "create", "--state-dir", state], arguments].concat());
        assert!(ended.code == Some(2) && ended.err.contains(said), "{ended:?}");
    }
    let ended = pointsman(&["token", "revoke", "nobody", "--state-dir", state]);
    assert!(ended.code == Some(1) && ended.err.contains("token list"), "{ended:?}");
}
