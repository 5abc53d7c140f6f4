//! The whole endpoint table against every credential.

use std::time::{Duration, SystemTime};

use axum::http::{Method, StatusCode};

use super::port::{Answer, Port};
use crate::admin::auth::{Access, Auth};
use crate::admin::routes::{Endpoint, endpoints};
use crate::admin::tokens::Role;
use crate::admin::tokens::file::TokenFile;
use crate::admin::tokens::live::LiveTokens;

const ADMIN: &str = "correct horse";
/// With a token, the port answers under any name.
const HOST: &str = "host: admin.example.com\r\n";

struct Closed {
    port: Port,
    file: TokenFile,
    _state_dir: tempfile::TempDir,
}

async fn closed(admin_token: Option<&str>) -> Closed {
    let state_dir = tempfile::tempdir().expect("a directory");
    let file = TokenFile::in_state_dir(state_dir.path());
    let port = Port::open(Auth::new(admin_token, Some(LiveTokens::new(file.clone())))).await;
    Closed { port, file, _state_dir: state_dir }
}

impl Closed {
    fn token(&self, role: Role) -> String {
        let name = role.as_str().parse().expect("a sound name");
        self.file.create(name, role, None, SystemTime::now()).expect("made")
    }

    /// No endpoint of the API has such a parameter: whatever is past the gate ends in a 400 and does nothing.
    async fn ask(&self, endpoint: &Endpoint, credential: Option<&str>) -> Answer {
        let target =
            endpoint.path.replace("{agent}", "support-bot").replace("{id}", "none").replace("{conversationId}", "c1");
        let authorization = credential.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
        let target = format!("{target}?no=such");
        self.port.send(endpoint.method.as_str(), &target, &format!("{HOST}{authorization}"), "").await
    }
}

fn passes(answer: &Answer) -> bool {
    !matches!(answer.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
}

#[tokio::test]
async fn each_endpoint_takes_its_role_and_those_above_and_no_other() {
    let closed = closed(Some(ADMIN)).await;
    let tokens = Role::ALL.map(|role| (role, closed.token(role)));
    let endpoints = endpoints();
    assert!(endpoints.iter().any(|e| e.method == Method::POST), "commands are in the table");
    for endpoint in &endpoints {
        let place = format!("{} {}", endpoint.method, endpoint.path);
        let Access::Api(wanted) = endpoint.access else {
            assert!(!endpoint.path.starts_with("/api/"), "{place} is open");
            assert!(passes(&closed.ask(endpoint, None).await), "{place}");
            continue;
        };
        assert!(endpoint.path.starts_with("/api/"), "{place}");
        assert!(endpoint.method == Method::GET || wanted >= Role::Operator, "{place} moves traffic");
        for (role, token) in &tokens {
            let answer = closed.ask(endpoint, Some(token)).await;
            assert_eq!(passes(&answer), *role >= wanted, "{place} as {role}: {}", answer.body);
            if *role < wanted {
                assert_eq!((answer.status, answer.problem().as_str()), (StatusCode::FORBIDDEN, "role_too_low"));
                assert!(answer.body.contains(&format!("--role {wanted}")), "{}", answer.body);
            }
        }
        assert!(passes(&closed.ask(endpoint, Some(ADMIN)).await), "{place} with admin.token");
        let without = closed.ask(endpoint, None).await;
        assert_eq!((without.status, without.problem().as_str()), (StatusCode::UNAUTHORIZED, "token_wanted"), "{place}");
        assert!(without.head.contains("www-authenticate: bearer"), "{place}");
        for wrong in ["correct horsE", "correct", "", "correct horse2", "pmt_AAAA"] {
            assert_eq!(closed.ask(endpoint, Some(wrong)).await.status, StatusCode::UNAUTHORIZED, "{place} {wrong:?}");
        }
    }
}

#[tokio::test]
async fn another_scheme_is_no_bearer_token() {
    let closed = closed(Some(ADMIN)).await;
    for authorization in ["Basic correct horse", "correct", "Bearer"] {
        let headers = format!("{HOST}authorization: {authorization}\r\n");
        assert_eq!(closed.port.send("GET", "/api/v1/table", &headers, "").await.problem(), "token_wanted");
    }
}

#[tokio::test]
async fn the_first_token_closes_the_port_and_each_change_counts_at_once() {
    let closed = closed(None).await;
    let table = |token: Option<String>| {
        let authorization = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
        let headers = format!("host: localhost\r\n{authorization}");
        let port = &closed.port;
        async move { port.send("GET", "/api/v1/table", &headers, "").await }
    };
    assert_eq!(table(None).await.status, StatusCode::OK, "nothing to ask for yet");
    let token = closed.token(Role::Viewer);
    assert_eq!(table(None).await.problem(), "token_wanted");
    assert_eq!(table(Some(token.clone())).await.status, StatusCode::OK);

    let long_ago = SystemTime::now() - Duration::from_secs(3_600);
    let name = "old".parse().expect("a sound name");
    let old = closed.file.create(name, Role::Admin, Some(Duration::from_secs(60)), long_ago).expect("made");
    let expired = table(Some(old)).await;
    assert_eq!((expired.status, expired.problem().as_str()), (StatusCode::UNAUTHORIZED, "expired_token"));

    closed.file.revoke("viewer").expect("is there");
    assert_eq!(table(Some(token.clone())).await.problem(), "wrong_token");
    closed.file.revoke("old").expect("is there");
    assert_eq!(table(None).await.problem(), "token_wanted", "the last one's end opens nothing");

    std::fs::write(closed.file.path(), "tokens: [").expect("writable");
    let unreadable = table(Some(token)).await;
    assert_eq!(
        (unreadable.status, unreadable.problem().as_str()),
        (StatusCode::SERVICE_UNAVAILABLE, "tokens_unreadable")
    );
}
