//! Paths in their normal form: what is matched, and what the agent gets.

use crate::harness::{App, Endpoint, Message};

/// Two agents that say who they are and what they got; `/admin` is the guarded one's.
fn app(paths: &str, open: &Endpoint, guarded: &Endpoint) -> App {
    App::with_yaml(&format!(
        "{paths}agents:\n  open: {{ match: [{{ path_prefix: / }}], versions: {{ 1.0.0: {{ endpoints: ['{}'] }} }}, stable: 1.0.0 }}\n  \
         guarded: {{ match: [{{ path_prefix: /admin }}], versions: {{ 2.0.0: {{ endpoints: ['{}'] }} }}, stable: 2.0.0 }}\n",
        open.url(),
        guarded.url()
    ))
}

fn get(app: &App, target: &str) -> Message {
    app.client().ask(&format!("GET {target} HTTP/1.1\r\nhost: a\r\n\r\n"))
}

/// The target that the endpoint got.
fn got(answer: &Message) -> &str {
    answer.text().lines().next().unwrap_or_default().split(' ').nth(1).unwrap_or_default()
}

#[test]
fn a_path_is_matched_and_forwarded_in_its_normal_form() {
    let (open, guarded) = (Endpoint::echo(), Endpoint::echo());
    let app = app("", &open, &guarded);
    for (target, version, forwarded) in [
        ("/a", "1.0.0", "/a"),
        ("/admin", "2.0.0", "/admin"),
        ("/a/../admin", "2.0.0", "/admin"),
        ("/a/%2e%2E/admin/x", "2.0.0", "/admin/x"),
        ("/%61dmin", "2.0.0", "/admin"),
        ("//admin", "2.0.0", "/admin"),
        ("/./admin/", "2.0.0", "/admin/"),
        ("/../admin?a=/../b", "2.0.0", "/admin?a=/../b"),
        ("/admin/../a", "1.0.0", "/a"),
        ("/admin%20", "1.0.0", "/admin%20"),
        ("/a%252e%252e/admin", "1.0.0", "/a%252e%252e/admin"),
        ("http://a/x/../admin", "2.0.0", "/admin"),
    ] {
        let answer = get(&app, target);
        assert_eq!((answer.version(), got(&answer)), (version, forwarded), "{target}");
        // The normal form goes the same way.
        let again = get(&app, forwarded);
        assert_eq!((again.version(), got(&again)), (version, forwarded), "{target}");
    }
    for target in ["/a%2f..%2fadmin", "/a%5c..%5cadmin", "/a\\..\\admin", "/admin%00", "/%", "/%zz"] {
        let answer = get(&app, target);
        assert_eq!((answer.status(), &answer.json()["error"]["code"]), (400, &"bad_request".into()), "{target}");
    }
}

#[test]
fn a_path_may_be_forwarded_as_it_was_received_and_slashes_kept() {
    let (open, guarded) = (Endpoint::echo(), Endpoint::echo());
    let app = app("paths: { encoded_slash: keep, forward: as_received }\n", &open, &guarded);
    assert_eq!(app.admin_get("/api/v1/agents/open/explain?path=/a%252Fb").status(), 200);
    for (target, version) in [
        ("/a/../admin?b", "2.0.0"),
        ("//admin", "2.0.0"),
        ("/a%2f..%2fadmin", "1.0.0"),
        ("/admin/a%2Fb", "2.0.0"),
        ("/a\\..\\admin", "1.0.0"),
    ] {
        let answer = get(&app, target);
        assert_eq!((answer.version(), got(&answer)), (version, target));
    }
    assert_eq!(get(&app, "/admin%00").status(), 400);
}

#[test]
fn explain_takes_a_path_in_any_form() {
    let (open, guarded) = (Endpoint::echo(), Endpoint::echo());
    let app = app("", &open, &guarded);
    let explain = |path: &str| app.admin_get(&format!("/api/v1/agents/open/explain?path={path}")).status();
    assert_eq!((explain("/a/../b"), explain("/a%2500b"), explain("/a%252Fb")), (200, 400, 400));
}
