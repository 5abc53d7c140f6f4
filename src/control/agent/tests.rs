//! What an agent remembers, act by act.

use std::time::{Duration, Instant, SystemTime};

use super::*;
use crate::control::fixture::{a_breach, a_spec, an_agent, step};
use crate::routing::ids::{VersionId, Weight};

fn at(start: Instant, seconds: u64) -> Moment {
    let by = Duration::from_secs(seconds);
    Moment { instant: start + by, wall: SystemTime::UNIX_EPOCH + by }
}

fn adopt(previous: Option<&AgentRollout>, intent: &AgentIntent, now: Moment) -> AgentRollout {
    AgentRollout::adopt(previous.map(|p| &p.state), intent, &Actor::file("cafe"), now)
}

fn intent(deployment: Option<DeploymentSpec>) -> AgentIntent {
    AgentIntent { health: [].into(), checks: [].into(), spec: Arc::new(an_agent()), deployment }
}

fn named(fingerprint: &str) -> Option<DeploymentSpec> {
    Some(DeploymentSpec { fingerprint: fingerprint.into(), ..a_spec() })
}

fn breach(rollout: &mut AgentRollout, now: Moment) {
    rollout.act(
        &Action::Rollback(RollbackCause::Guard(a_breach())),
        Cost { requests: 9, errors: 4, ..Cost::default() },
        now,
    );
}

fn state(rollout: &AgentRollout) -> &str {
    rollout.deployment().map_or("none", |d| d.state.as_str())
}

fn stable(rollout: &AgentRollout) -> &str {
    rollout.spec.stable.as_str()
}

fn canary(rollout: &AgentRollout) -> Option<(String, Weight)> {
    rollout.desired().canary.map(|share| (share.version.to_string(), share.weight))
}

#[test]
fn an_unrelated_reload_keeps_the_stage_and_its_time() {
    let start = Instant::now();
    let mut rollout = adopt(None, &intent(named("a")), at(start, 0));
    rollout.act(&Action::Advance(1), Cost::default(), at(start, 600));
    let mut changed = an_agent();
    changed.bucketing.salt = "2026-q2".into();
    let reloaded =
        AgentIntent { health: [].into(), checks: [].into(), spec: Arc::new(changed), deployment: named("a") };
    let after = adopt(Some(&rollout), &reloaded, at(start, 900));
    assert_eq!(after.state.deployment, rollout.state.deployment);
    assert_eq!(&*after.spec.bucketing.salt, "2026-q2");
}

#[test]
fn a_rollback_is_latched_whenever_its_block_comes_back() {
    let start = Instant::now();
    let mut first = adopt(None, &intent(named("a")), at(start, 0));
    assert_eq!(canary(&first), Some(("1.5.0".into(), Weight::new(1_000).expect("1 %"))));
    breach(&mut first, at(start, 60));
    assert_eq!((canary(&first), first.desired().barred), (None, vec![VersionId::new("1.5.0")]));

    let removed = adopt(Some(&first), &intent(None), at(start, 70));
    assert_eq!((state(&removed), removed.desired().barred), ("none", vec![]));
    let back = adopt(Some(&removed), &intent(named("a")), at(start, 100_000));
    assert_eq!(back.state.deployment, first.state.deployment, "with its cause, its cost and its time");
    assert_eq!(back.state.tally, Tally { rollbacks_by_guard: 1, breaches: 1, ..Tally::default() });
}

/// What conversations leave is not what is barred: neither less, once the next block is there, nor more.
#[test]
fn conversations_leave_what_was_rolled_back_and_only_that() {
    let version = |name: &str| DeploymentSpec { version: VersionId::new(name), fingerprint: name.into(), ..a_spec() };
    let again = || DeploymentSpec { fingerprint: "again".into(), ..a_spec() };
    let abort = Action::Abort { by: Actor::file("cafe"), reason: None };
    let mut stable = an_agent();
    stable.stable = VersionId::new("1.5.0");
    let stable = AgentIntent { spec: Arc::new(stable), ..intent(None) };
    let breach = Action::Rollback(RollbackCause::Guard(a_breach()));
    let block = |spec| intent(Some(spec));
    let (old, next) = (|| block(version("1.5.0")), || block(version("1.6.0")));
    type Act<'a> = Result<AgentIntent, &'a Action>;
    let cases: [(&str, Vec<Act<'_>>, &str, &[&str]); 10] = [
        ("on trial", vec![Ok(old())], "running", &[]),
        ("rolled back", vec![Ok(old()), Err(&breach)], "rolled_back", &["1.5.0"]),
        ("aborted", vec![Ok(old()), Err(&abort)], "aborted", &["1.5.0"]),
        ("the next block", vec![Ok(old()), Err(&breach), Ok(next())], "waiting", &["1.5.0"]),
        ("no block", vec![Ok(old()), Err(&breach), Ok(intent(None))], "none", &["1.5.0"]),
        ("both", vec![Ok(old()), Err(&breach), Ok(next()), Err(&breach)], "rolled_back", &["1.5.0", "1.6.0"]),
        ("waits after its own rollback", vec![Ok(old()), Err(&breach), Ok(block(again()))], "waiting", &["1.5.0"]),
        ("runs again", vec![Ok(old()), Err(&breach), Ok(block(again())), Err(&Action::Start)], "running", &[]),
        (
            "served, and waits for another's cooldown",
            vec![Ok(old()), Ok(next()), Err(&breach), Ok(block(again()))],
            "waiting",
            &["1.6.0"],
        ),
        ("stable", vec![Ok(old()), Err(&breach), Ok(stable)], "none", &[]),
    ];
    for (name, acts, expected, left) in cases {
        let start = Instant::now();
        let mut rollout: Option<AgentRollout> = None;
        for (second, act) in (0..).zip(acts) {
            match (act, &mut rollout) {
                (Ok(intent), _) => rollout = Some(adopt(rollout.as_ref(), &intent, at(start, second))),
                (Err(action), Some(rollout)) => rollout.act(action, Cost::default(), at(start, second)),
                (Err(_), None) => unreachable!("there is a block first"),
            }
        }
        let rollout = rollout.expect("there are acts");
        assert_eq!(
            (state(&rollout), rollout.desired().left),
            (expected, left.iter().copied().map(VersionId::new).collect()),
            "{name}"
        );
    }
}

#[test]
fn a_changed_block_waits_until_the_cooldown_of_the_last_rollback_is_over() {
    let start = Instant::now();
    let mut rollout = adopt(None, &intent(named("a")), at(start, 0));
    breach(&mut rollout, at(start, 60));
    let waiting = adopt(Some(&rollout), &intent(named("b")), at(start, 61));
    assert_eq!((state(&waiting), canary(&waiting)), ("waiting", None));
    assert_eq!(waiting.desired().barred, [VersionId::new("1.5.0")], "no rule may send it traffic either");
    assert!(waiting.plan(&Observation::none(), at(start, 659)).is_empty());
    assert_eq!(waiting.plan(&Observation::none(), at(start, 660)), [Action::Start]);
    let later = adopt(Some(&rollout), &intent(named("b")), at(start, 660));
    assert_eq!(state(&later), "running");
}

#[test]
fn a_completed_version_is_stable_until_the_file_says_another() {
    let start = Instant::now();
    let spec = DeploymentSpec { steps: vec![step(100_000, None)], guards: vec![], bake: Duration::ZERO, ..a_spec() };
    let done = adopt(None, &intent(Some(spec.clone())), at(start, 0));
    assert_eq!((state(&done), canary(&done), stable(&done)), ("completed", None, "1.5.0"));
    assert_eq!(done.state.points[0].stable.version, VersionId::new("1.4.2"));
    let reloaded = adopt(Some(&done), &intent(Some(spec)), at(start, 9));
    assert_eq!(reloaded.state.deployment, done.state.deployment);
    let removed = adopt(Some(&reloaded), &intent(None), at(start, 10));
    assert_eq!((state(&removed), canary(&removed), stable(&removed)), ("none", None, "1.5.0"));
    let mut other = an_agent();
    other.stable = VersionId::new("1.6.0");
    let other = AgentIntent { health: [].into(), checks: [].into(), spec: Arc::new(other), deployment: None };
    let changed = adopt(Some(&removed), &other, at(start, 11));
    assert_eq!(stable(&changed), "1.6.0");
    let back = adopt(Some(&changed), &intent(None), at(start, 12));
    assert_eq!((stable(&back), back.state.points.len()), ("1.4.2", 3));
}

#[test]
fn a_version_that_the_file_no_longer_defines_serves_no_more() {
    let start = Instant::now();
    let spec = DeploymentSpec { steps: vec![step(100_000, None)], guards: vec![], bake: Duration::ZERO, ..a_spec() };
    let done = adopt(None, &intent(Some(spec)), at(start, 0));
    let mut without = an_agent();
    without.versions.remove("1.5.0");
    let without = AgentIntent { health: [].into(), checks: [].into(), spec: Arc::new(without), deployment: None };
    assert_eq!(stable(&adopt(Some(&done), &without, at(start, 1))), "1.4.2");
}

#[test]
fn what_is_remembered_can_be_written_down_and_read_again() {
    let now = Moment::now();
    let mut rollout = adopt(None, &intent(named("a")), now);
    breach(&mut rollout, now);
    let rollout = adopt(Some(&rollout), &intent(named("b")), now);
    let text = serde_json::to_string(&rollout.state).expect("a document");
    let read: AgentState = serde_json::from_str(&text).expect("the same document");
    // The monotonic clock is read anew; every wall time is as it was.
    assert_eq!(serde_json::to_string(&read).expect("a document"), text);
    assert_eq!(read.history[0].state.as_str(), "rolled_back");
}

#[test]
fn a_file_that_makes_the_version_stable_completes_its_deployment() {
    let start = Instant::now();
    let mut rollout = adopt(None, &intent(named("a")), at(start, 0));
    let mut promoted = an_agent();
    promoted.stable = VersionId::new("1.5.0");
    let promoted =
        AgentIntent { health: [].into(), checks: [].into(), spec: Arc::new(promoted), deployment: named("a") };
    let after = adopt(Some(&rollout), &promoted, at(start, 5));
    assert_eq!((state(&after), canary(&after)), ("completed", None));

    // What a guard took out does not become completed; but the author's stable is never barred.
    breach(&mut rollout, at(start, 4));
    let after = adopt(Some(&rollout), &promoted, at(start, 5));
    assert_eq!((state(&after), after.desired().barred), ("rolled_back", vec![]));
}

#[test]
fn only_so_many_rollbacks_are_remembered() {
    let start = Instant::now();
    let mut rollout: Option<AgentRollout> = None;
    for n in 0..=DEPLOYMENTS_REMEMBERED as u64 + 1 {
        // A day apart: no cooldown is left.
        let now = at(start, n * 86_400);
        let mut next = adopt(rollout.as_ref(), &intent(named(&n.to_string())), now);
        assert_eq!(state(&next), "running");
        breach(&mut next, now);
        rollout = Some(next);
    }
    let rollout = rollout.expect("just made");
    assert_eq!(rollout.state.history.len(), DEPLOYMENTS_REMEMBERED);
    let now = at(start, 100 * 86_400);
    let back = |name| state(&adopt(Some(&rollout), &intent(named(name)), now)).to_owned();
    assert_eq!((back("0").as_str(), back("1").as_str()), ("running", "rolled_back"));
}
