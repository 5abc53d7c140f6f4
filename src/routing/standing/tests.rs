use super::*;
use crate::routing::decide;
use crate::routing::fixture::{CANARY, STABLE, agent, head, pins};
use crate::routing::overrides::Grant;

const NOW: Second = 1_800_000_000;

/// Names and values of header fields.
type Fields<'a> = &'a [(&'static str, &'a str)];

struct Bench {
    known: Known,
    agent: Arc<Agent>,
}

impl Bench {
    fn new() -> Self {
        let ring = || KeyRing::new([("k", "a secret of at least thirty-two bytes")]).unwrap();
        let overrides = Some(Overrides { keys: ring(), forward: false });
        let keys = Arc::new(Keys { tokens: Some(ring()), overrides });
        Self { known: Known { pins: pins(10), keys }, agent: agent() }
    }

    fn seat(&self) -> (&ConversationSpec, &Seat) {
        self.agent.conversations(&self.known.pins).unwrap()
    }

    fn token(&self, version: usize, at: Second) -> String {
        token::sign(self.known.keys.tokens.as_ref().unwrap(), &self.agent, self.seat().1, version, 1, at).unwrap()
    }

    fn signature(&self, version: &str) -> String {
        let grant = Grant { environment: "production", agent: "support-bot", version, expires: NOW + 1 };
        grant.sign(&self.known.keys.overrides.as_ref().unwrap().keys).unwrap()
    }

    fn pin(&self, id: &str, version: usize) {
        let (_, seat) = self.seat();
        self.known.pins.make(seat, seat.key(id.as_bytes()).unwrap(), version, NOW).unwrap();
    }

    /// Version, reason and what is said of a request with these headers.
    fn explained(&self, fields: Fields<'_>) -> (String, &'static str, String) {
        let headers: HeaderMap =
            fields.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        let mut explanation = decide::explain(&self.agent, &head(&headers), 7);
        explain(&mut explanation, &self.agent, &head(&headers), &self.known, NOW);
        (explanation.version.to_string(), explanation.reason, explanation.standing.join("; "))
    }
}

#[test]
fn an_override_comes_before_a_pin_and_a_pin_before_a_token() {
    let bench = Bench::new();
    bench.pin("a", CANARY);
    let (stable_token, canary_token) = (bench.token(STABLE, NOW), bench.token(CANARY, NOW));
    let signature = bench.signature("1.6.0");
    let cookie = format!("a=b; pointsman-override={signature}");
    let table: [(Fields<'_>, &str, &str); 8] = [
        (&[], "1.4.2", "stable"),
        (&[("x-conversation-id", "new")], "1.4.2", "stable"),
        (&[("x-conversation-id", "a")], "1.5.0", "pin"),
        (&[("x-conversation-id", "a"), ("x-pin", &stable_token)], "1.5.0", "pin"),
        (&[("x-conversation-id", "new"), ("x-pin", &canary_token)], "1.5.0", "pin"),
        (&[("x-pin", &canary_token)], "1.5.0", "pin"),
        (
            &[("x-conversation-id", "a"), ("x-pointsman-version", "1.6.0"), ("x-pointsman-signature", &signature)],
            "1.6.0",
            "override",
        ),
        (&[("x-pin", &canary_token), ("cookie", &cookie)], "1.6.0", "override"),
    ];
    for (fields, version, reason) in table {
        let (got, why, _) = bench.explained(fields);
        assert_eq!((got.as_str(), why), (version, reason), "{fields:?}");
    }
}

#[test]
fn what_is_no_good_is_ignored_and_said_so() {
    let bench = Bench::new();
    let (old, signature) = (bench.token(CANARY, NOW - 7200), bench.signature("1.6.0"));
    let table: [(Fields<'_>, &str); 6] = [
        (&[("x-pin", "nonsense")], "its token is ignored: it is not of the form"),
        (&[("x-pin", &old)], "its token is ignored: it has expired"),
        (&[("x-pointsman-version", "1.6.0")], "its override is ignored: there is no x-pointsman-signature"),
        (
            &[("x-pointsman-version", "1.5.0"), ("x-pointsman-signature", &signature)],
            "its override is ignored: it was signed for another version",
        ),
        (&[("cookie", "pointsman-override=")], "its override is ignored: it is not of the form"),
        (&[("x-conversation-id", &"x".repeat(257))], "too long"),
    ];
    for (fields, said) in table {
        let (version, reason, standing) = bench.explained(fields);
        assert_eq!((version.as_str(), reason), ("1.4.2", "stable"), "{fields:?}");
        assert!(standing.contains(said), "{standing}");
    }
    assert_eq!(bench.known.pins.stats().pins, 0, "explaining makes no pin");
}

#[test]
fn without_keys_nothing_signed_counts() {
    let bench = Bench::new();
    let (token, signature) = (bench.token(CANARY, NOW), bench.signature("1.6.0"));
    let keyless = Bench { known: Known { pins: pins(10), keys: Arc::default() }, agent: agent() };
    let fields = [("x-pin", token.as_str()), ("x-pointsman-version", "1.6.0"), ("x-pointsman-signature", &signature)];
    assert_eq!(keyless.explained(&fields), ("1.4.2".to_owned(), "stable", String::new()));
}
