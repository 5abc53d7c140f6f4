//! Requests of every kind to the API: each gets an answer of its own that says what is wrong, and none is our fault.
//!
//! An input is a method and a target in a line, fields, an empty line and a body.

use super::*;
use crate::fuzz::{Target, run};

/// Fields that would frame the message otherwise, or keep the connection; what hyper makes of those is not tried here.
const OURS: [&str; 6] = ["content-length", "transfer-encoding", "connection", "host", "expect", "upgrade"];

struct Input {
    method: String,
    target: String,
    fields: String,
    body: String,
}

impl Input {
    /// `None` where it is no request, or one for the stream of events, which does not end.
    fn read(text: &str) -> Option<Self> {
        let (head, body) = text.split_once("\n\n").unwrap_or((text, ""));
        let mut lines = head.split('\n');
        let (method, target) = lines.next()?.split_once(' ')?;
        let is_plain = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_plain(method) || !is_plain(target) || target.contains("events") {
            return None;
        }
        let is_kept = |line: &&str| {
            let name = line.split(':').next().unwrap_or("").trim().to_ascii_lowercase();
            !OURS.contains(&name.as_str()) && !line.starts_with([' ', '\t']) && !line.trim().is_empty()
        };
        let fields = lines.filter(is_kept).map(|line| format!("{}\r\n", line.trim_end())).collect();
        Some(Self { method: method.into(), target: target.into(), fields, body: body.into() })
    }
}

#[test]
fn api_fuzz() {
    let words = [
        "GET ",
        "POST ",
        "PATCH ",
        "DELETE ",
        "HEAD ",
        "PUT ",
        "/api/v1/",
        "agents/support-bot",
        "/deployment",
        "/deployments",
        "/rollback",
        "/explain?",
        "?dryRun=true",
        "?environment=",
        "&limit=0",
        "&limit=99999999999",
        "&after=",
        "%2F",
        "%00",
        "%ff",
        "{",
        "}",
        "[",
        "null",
        "\"\"",
        "1e999",
        "-1",
        "\"version\":\"1.5.0\"",
        "\"weightPercent\":",
        "\"steps\":[",
        "\"guards\":[",
        "\"reason\":",
        "content-type: text/plain\n",
        "if-match: \"1\"\n",
        "if-match: *\n",
        "idempotency-key: a\n",
        "authorization: Bearer x\n",
    ];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    run(Target { name: "api", words: &words, seeds: vec![], cases: 500 }, |input| {
        let Some(request) = Input::read(&String::from_utf8_lossy(input)) else { return };
        runtime.block_on(async {
            let port = Port::local().await;
            let Input { method, target, fields, body } = &request;
            let fields = format!("host: localhost\r\n{fields}");
            let answer = port.send(method, target, &fields, body).await;
            let status = answer.status.as_u16();
            let starting = target.split('?').next().is_some_and(|path| path.ends_with("/readyz"));
            assert!((200..500).contains(&status) || starting && status == 503, "{status}: {}", answer.body);
            // What is not HTTP at all hyper answers, without a body.
            let by_hyper = answer.body.is_empty() && !answer.head.contains("content-type");
            if status >= 400 && method != "HEAD" && !by_hyper && !starting {
                answer.problem();
            }
            assert_eq!(port.get("/livez").await.status, StatusCode::OK);
            let _ = port.stop.send(true);
            port.served.await.expect("nothing has panicked");
        });
    });
}
