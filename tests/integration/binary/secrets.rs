//! Nothing that is secret is told: not in the log at its most talkative, not in errors, metrics, or the API.

use super::process::{File, Proxy, command, logged, pointsman};
use crate::harness::{Endpoint, Message, Wire, eventually, unused_address};
use crate::http2::client::{Http2, client, post};
use crate::upstream_http2::endpoint::Endpoint2;

/// Told apart, so that a failure says which one is out.
const ADMIN: &str = "admin-5c1f0e2b7a9d4483";
const PIN: &str = "pin-0c4be2c1d5a64b0f9e0a7d3b6f1c2a58";
const OVERRIDE: &str = "override-6b2f4d8a1c3e5f7091b3d5f7a9c1e3f5";
const BEARER: &str = "bearer-9f3a1b7c5d2e4f60";
const COOKIE: &str = "cookie-71e2d3c4b5a69788";
const HEADER: &str = "header-1a2b3c4d5e6f7081";
const QUERY: &str = "query-8d7c6b5a49382716";
const BODY: &str = "body-3e4d5c6b7a899807";
const USERINFO: &str = "userinfo-5f4e3d2c1b0a9988";
const PROMETHEUS: &str = "prometheus-4d3c2b1a0f9e8d7c";
const WRONG: &str = "wrong-token-c0ffee1234567890";

const ALL: [&str; 11] = [ADMIN, PIN, OVERRIDE, BEARER, COOKIE, HEADER, QUERY, BODY, USERINFO, PROMETHEUS, WRONG];

fn configuration(one: &Endpoint, two: &Endpoint2, three: &str) -> String {
    let (one, two) = (one.url(), &two.url);
    format!(
        "listeners: [{{ address: '127.0.0.1:0' }}]\n\
         admin: {{ address: '127.0.0.1:0', token: '${{T_ADMIN}}' }}\n\
         workers: 1\nstate_dir: none\naccess_log: {{}}\n\
         prometheus: {{ url: 'http://127.0.0.1:9', token: {PROMETHEUS} }}\n\
         limits: {{ head_timeout: 2s }}\n\
         pins: {{ keys: [{{ id: k, secret: '${{T_PIN}}' }}] }}\n\
         overrides: {{ keys: [{{ id: o, secret: {OVERRIDE} }}] }}\n\
         rate_limits: [{{ name: some, key: [header:x-api-key, cookie:sid], requests_per_minute: 6000 }}]\n\
         agents:\n  one:\n    match: [{{ path_prefix: /one }}]\n    versions: {{ 1.0.0: {{ endpoints: ['{one}'] }}, 1.1.0: {{ endpoints: ['{one}'] }} }}\n    \
         stable: 1.0.0\n    split: {{ 1.0.0: 50%, 1.1.0: 50% }}\n    \
         bucketing: {{ key: [json:/password, header:x-api-key, cookie:sid, query:api_key, jwt:sub] }}\n    \
         conversations: {{ id: [header:x-session], token: {{ cookie: pin }} }}\n  \
         two:\n    match: [{{ path_prefix: /two }}]\n    protocol: http2\n    \
         versions: {{ 1.0.0: {{ endpoints: ['{two}'] }} }}\n    stable: 1.0.0\n  \
         three:\n    match: [{{ path_prefix: /three }}]\n    \
         versions: {{ 1.0.0: {{ endpoints: ['http://{three}'] }} }}\n    stable: 1.0.0\n"
    )
}

fn fields() -> [(&'static str, String); 5] {
    [
        ("authorization", format!("Bearer {BEARER}")),
        ("cookie", format!("sid={COOKIE}; pin={COOKIE}")),
        ("x-api-key", HEADER.to_owned()),
        ("x-session", format!("{HEADER}-session")),
        ("content-type", "application/json".to_owned()),
    ]
}

fn body() -> String {
    format!("{{\"password\":\"{BODY}\"}}")
}

/// A request with a secret in each place that there is.
fn request(target: &str, body: &str) -> String {
    let fields: String = fields().map(|(name, value)| format!("{name}: {value}\r\n")).concat();
    format!(
        "POST {target}?api_key={QUERY} HTTP/1.1\r\nhost: a.test\r\n{fields}content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// What we ourselves answer to requests that are wrong in some way.
fn wrong_ones(proxy: &Proxy) -> Vec<Message> {
    let bad = [
        request("/nowhere", ""),
        request("/three", &body()),
        request("/one", "").replace("x-api-key: ", "x-api-key : "),
        request("/one", "").replace("content-length: 0", "content-length: 0\r\ncontent-length: 5"),
        request("/one", "").replace("HTTP/1.1", "HTTP/9.1"),
        request("/one", "").replace("host: a.test", "host: a.test/?"),
        format!("GET http://me:{USERINFO}@[bad/one HTTP/1.1\r\nhost: a\r\n\r\n"),
        format!("CONNECT me:{USERINFO}@host:80 HTTP/1.1\r\nhost: a\r\n\r\n"),
        // Never whole.
        format!("GET /one HTTP/1.1\r\nauthorization: Bearer {BEARER}\r\n"),
        request("/one", "").replace("x-session", &"x".repeat(70_000)),
    ];
    bad.iter().filter_map(|text| Wire::connect(proxy.proxy).asked(text)).collect()
}

impl Wire {
    /// The answer, if there is one: the other end may close before it has read all.
    fn asked(mut self, text: &str) -> Option<Message> {
        let _ = self.write(text);
        self.message()
    }
}

fn over_http2(proxy: &Proxy) {
    client(async {
        let mut http2 = Http2::connect(proxy.proxy).await;
        for path in ["/one", "/two", "/three", "/nowhere"] {
            let mut request = post(&format!("{path}?api_key={QUERY}"));
            for (name, value) in fields() {
                request.headers_mut().append(name, value.parse().unwrap());
            }
            let (response, mut upload) = http2.begin(request, false).await;
            upload.send_data(body().into(), true).unwrap();
            let _ = response.await.unwrap();
        }
    });
}

fn admin_answers(proxy: &Proxy) -> Vec<Message> {
    let ask = |method: &str, path: &str, token: &str, body: &str| {
        let fields =
            format!("host: a\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\nconnection: close");
        let length = body.len();
        Wire::connect(proxy.admin)
            .ask(&format!("{method} {path} HTTP/1.1\r\n{fields}\r\ncontent-length: {length}\r\n\r\n{body}"))
    };
    let mut answers = vec![ask("GET", "/metrics", ADMIN, ""), ask("GET", "/api/v1/config", WRONG, "")];
    for path in
        ["config", "agents", "agents/one", "table", "deployments", "audit", "tokens", "openapi.json", "conversations"]
    {
        answers.push(ask("GET", &format!("/api/v1/{path}"), ADMIN, ""));
    }
    let deployment = format!("{{\"version\":\"{BODY}\",\"steps\":\"{BODY}\"}}");
    answers.push(ask("POST", "/api/v1/agents/one/deployments", WRONG, &deployment));
    answers
}

#[test]
fn no_secret_is_in_logs_errors_metrics_or_answers() {
    let one = Endpoint::saying("x");
    let two = Endpoint2::start(|mut call| async move {
        call.body().await;
        call.answer("x").await;
    });
    let good = configuration(&one, &two, &unused_address().to_string());
    let file = File::new(&good);
    let mut run = command(&["run", "--log-level", "trace", "--log-format", "json", "--config", file.path()]);
    let proxy = Proxy::of(run.env("T_ADMIN", ADMIN).env("T_PIN", PIN));

    let answer = Wire::connect(proxy.proxy).ask(&request("/one", &body()));
    assert_eq!(answer.status(), 200, "{answer:?}");
    assert_eq!(Wire::connect(proxy.proxy).ask(&request("/two", &body())).status(), 200);
    let mut told: Vec<Message> = wrong_ones(&proxy);
    assert!(told.len() >= 7, "{} of them were answered", told.len());
    over_http2(&proxy);

    // A file whose secrets are in all the wrong places.
    let bad = format!(
        "{}listeners: [{{ address: '${{T_ADMIN}}' }}]\nworkers: 'a ${{T_PIN}}'\n",
        good.replace("http://", &format!("http://me:{USERINFO}@"))
            .replace("listeners: [{ address: '127.0.0.1:0' }]\n", "")
            .replace("workers: 1\n", "")
    );
    std::fs::write(&file.path, &bad).unwrap();
    eventually("the bad file is refused", || !logged(&proxy.process, REFUSED).is_empty());
    let mut check = command(&["check", file.path()]);
    let checked =
        super::process::Process::start(check.env("T_ADMIN", ADMIN).env("T_PIN", PIN)).ended(crate::harness::PATIENCE);
    assert!(checked.code == Some(1) && checked.err.contains("${T_ADMIN}"), "{checked:?}");
    told.extend(admin_answers(&proxy));
    let ended = proxy.stop();

    let shown =
        told.iter().map(|answer| format!("{answer:?}{}", String::from_utf8_lossy(&answer.body))).collect::<String>();
    let all = [("log", ended.err), ("output", ended.out), ("check", checked.out + &checked.err), ("answers", shown)];
    assert!(all[0].1.contains("TRACE") && all[1].1.contains("/one"), "the log and the access log are there");
    for (place, text) in &all {
        for secret in ALL {
            let at = text.find(secret).map(|at| text[at.saturating_sub(300)..].chars().take(400).collect::<String>());
            assert_eq!(at, None, "{secret} is in the {place}");
        }
    }
}

const REFUSED: &str = "configuration not reloaded; the last good one stays live";

/// What is written in the file itself, where something else belongs.
#[test]
fn a_url_with_a_password_is_refused_without_it() {
    let file = File::new(&format!(
        "prometheus: {{ url: 'http://me:{USERINFO}@host' }}\nagents: {{ bot: {{ versions: {{ 1.0.0: {{ endpoints: ['http://me:{USERINFO}@h'] }} }}, stable: 1.0.0 }} }}\n"
    ));
    let checked = pointsman(&["check", file.path()]);
    assert!(checked.code == Some(1) && checked.err.contains("http://…@h"), "{checked:?}");
    assert!(!(checked.out + &checked.err).contains(USERINFO));
}
