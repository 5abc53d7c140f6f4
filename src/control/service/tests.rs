//! The service over real tables and real counters; times are said, not waited for.

use std::time::SystemTime;

use super::*;
use crate::control::command::{Command, CommandError, Done, Order};
use crate::control::fixture::{a_spec, an_agent, intent, intent_of, step};
use crate::control::model::{DeploymentSpec, DeploymentState, OnBreach, RollbackCause};
use crate::routing::ids::{AgentId, EnvironmentId, VersionId, Weight};
use crate::telemetry::stats::{Exchange, Outcome, StatusClass, VersionLabels, VersionStats};

pub(super) struct Bench {
    pub control: Control,
    pub registry: Arc<StatsRegistry>,
    start: Instant,
}

impl Bench {
    pub fn new(intent: Intent) -> Self {
        let (registry, start) = (Arc::new(StatsRegistry::new(1)), Instant::now());
        let now = Moment { instant: start, wall: SystemTime::UNIX_EPOCH };
        let (control, _) = Control::start_at(None, intent, registry.clone(), now).expect("a good intent");
        Self { control, registry, start }
    }

    pub fn at(&self, seconds: u64) -> Moment {
        let by = Duration::from_secs(seconds);
        Moment { instant: self.start + by, wall: SystemTime::UNIX_EPOCH + by }
    }

    fn stats(&self, version: &str) -> Arc<VersionStats> {
        let (environment, agent) = ("production".into(), "support-bot".into());
        self.registry.version(VersionLabels { environment, agent, version: version.into() })
    }

    fn serve(&self, version: &str, outcome: Outcome, times: usize) {
        let stats = self.stats(version);
        for _ in 0..times {
            stats.started(0);
            let latency = Duration::from_millis(20);
            let class = StatusClass::Success;
            stats.ended(0, &Exchange::plain(outcome, class, latency, Some(latency)));
        }
    }

    pub fn weight(&self, version: &str) -> Weight {
        let table = self.control.table().load();
        let agent = table.agent("production", "support-bot").expect("is in the table");
        let index = agent.versions.iter().position(|v| v.id.as_str() == version).expect("has the version");
        agent.split.weight(index)
    }

    pub fn epoch(&self) -> u64 {
        self.control.table().load().epoch
    }

    pub fn view(&self) -> DeploymentView {
        self.control.deployment(&key()).expect("has a deployment")
    }

    pub fn state(&self) -> &'static str {
        self.view().deployment.state.as_str()
    }

    pub fn order(&self, command: Command, at: Moment) -> Result<Done, CommandError> {
        self.control.order_at(&key(), None, &command, &Order::by(ada()), at)
    }

    pub fn rollback(&self, at: Moment) -> Result<DeploymentView, CommandError> {
        let order = Order { reason: Some("smells".into()), ..Order::by(ada()) };
        let done = self.control.order_at(&key(), None, &Command::Rollback { to: None }, &order, at)?;
        Ok(done.view.expect("it has a deployment"))
    }

    /// Whether the next outcome of a version wakes the judge.
    async fn rings(&self, version: &str) -> bool {
        let heard = |bell: Arc<crate::telemetry::bell::Bell>| async move {
            tokio::select! {
                biased;
                () = bell.heard() => true,
                () = std::future::ready(()) => false,
            }
        };
        heard(self.registry.bell().clone()).await;
        self.serve(version, Outcome::Success, 1);
        heard(self.registry.bell().clone()).await
    }
}

pub(super) fn ada() -> Actor {
    Actor::new("ada", "api")
}

pub(super) fn key() -> AgentKey {
    AgentKey { environment: EnvironmentId::new("production"), agent: AgentId::new("support-bot") }
}

pub(super) fn percent(weight: u32) -> Weight {
    Weight::new(weight * 1000).expect("a share")
}

#[test]
fn a_failing_canary_leaves_the_table_with_the_look_that_finds_it() {
    let bench = Bench::new(intent(Some(a_spec())));
    assert_eq!((bench.epoch(), bench.weight("1.5.0")), (1, percent(1)));
    bench.serve("1.4.2", Outcome::Success, 500);
    bench.serve("1.5.0", Outcome::Success, 10);
    bench.serve("1.5.0", Outcome::ServerError, 9);
    bench.control.look(bench.at(5));
    assert_eq!((bench.epoch(), bench.state()), (1, "running"), "19 requests are too few for a word");

    bench.serve("1.5.0", Outcome::ServerError, 1);
    bench.control.look(bench.at(6));
    assert_eq!((bench.epoch(), bench.weight("1.5.0"), bench.weight("1.4.2")), (2, Weight::ZERO, Weight::FULL));
    let view = bench.view();
    let DeploymentState::RolledBack(rollback) = &view.deployment.state else { panic!("is {:?}", view.deployment) };
    let RollbackCause::Guard(breach) = &rollback.cause else { panic!("by {:?}", rollback.cause) };
    let reading = breach.reading().expect("a guard's");
    assert_eq!((reading.canary.requests, reading.canary.bad), (20, 10));
    assert_eq!((rollback.cost.requests, rollback.cost.errors, rollback.at), (20, 10, bench.at(6)));
    assert_eq!((rollback.weight, view.cost), (percent(1), rollback.cost));
    let counters = bench.control.counters();
    assert_eq!((counters[0].tally.rollbacks_by_guard, counters[0].tally.breaches), (1, 1));
    assert_eq!(bench.control.next_look(bench.at(6)), None, "there is nothing left to look at");
}

#[test]
fn what_the_client_broke_is_no_breach() {
    let bench = Bench::new(intent(Some(a_spec())));
    bench.serve("1.5.0", Outcome::ClientCancel, 500);
    bench.serve("1.5.0", Outcome::ClientError, 500);
    bench.control.look(bench.at(1));
    assert_eq!(bench.state(), "running");
}

#[test]
fn a_ramp_publishes_one_table_per_weight() {
    let bench = Bench::new(intent(Some(a_spec())));
    let mut seen = Vec::new();
    for minute in 0..=110 {
        bench.serve("1.5.0", Outcome::Success, 30);
        bench.control.look(bench.at(minute * 60));
        let now = (bench.epoch(), bench.weight("1.5.0"), bench.state());
        if seen.last() != Some(&now) {
            seen.push(now);
        }
    }
    let expected = [
        (1, percent(1), "running"),
        (2, percent(5), "running"),
        (3, Weight::FULL, "baking"),
        // The same traffic; but its version is stable now.
        (4, Weight::FULL, "completed"),
    ];
    assert_eq!(seen, expected);
}

#[test]
fn a_reload_is_whole_or_nothing() {
    let bench = Bench::new(intent(Some(a_spec())));
    let before = bench.control.table().load_full();
    let broken = DeploymentSpec { fingerprint: "second".into(), version: VersionId::new("9.9.9"), ..a_spec() };
    let rejections = bench.control.apply_at(intent(Some(broken)), bench.at(5)).expect_err("no such version");
    assert!(rejections.iter().any(|r| r.to_string().contains("9.9.9")), "{rejections:?}");
    assert!(Arc::ptr_eq(&before, &bench.control.table().load_full()));
    assert_eq!(bench.view().deployment.spec.fingerprint, "first");

    let applied = bench.control.apply_at(intent(None), bench.at(6));
    assert_eq!(applied, Ok(Applied { epoch: 2, agents: 1 }));
    assert_eq!((bench.epoch(), bench.weight("1.4.2")), (2, Weight::FULL));
    assert!(bench.control.deployments().is_empty());
}

#[test]
fn a_reload_does_not_reset_what_a_guard_has_seen() {
    let bench = Bench::new(intent(Some(a_spec())));
    bench.serve("1.5.0", Outcome::ServerError, 19);
    bench.control.look(bench.at(1));
    bench.control.apply_at(intent(Some(a_spec())), bench.at(2)).expect("the same again");
    bench.serve("1.5.0", Outcome::ServerError, 1);
    bench.control.look(bench.at(3));
    assert_eq!((bench.state(), bench.view().cost.requests), ("rolled_back", 20));
    // Nor does the same file open what is rolled back.
    bench.control.apply_at(intent(Some(a_spec())), bench.at(10_000)).expect("the same again");
    assert_eq!((bench.state(), bench.weight("1.5.0")), ("rolled_back", Weight::ZERO));
}

#[test]
fn a_wait_at_zero_begins_its_trial_when_the_cooldown_is_over() {
    let bench = Bench::new(intent(Some(a_spec())));
    bench.rollback(bench.at(60)).expect("is running");
    let second = DeploymentSpec { fingerprint: "second".into(), ..a_spec() };
    bench.control.apply_at(intent(Some(second)), bench.at(61)).expect("a good intent");
    assert_eq!((bench.state(), bench.weight("1.5.0")), ("waiting", Weight::ZERO));
    assert_eq!(bench.control.next_look(bench.at(61)), Some(bench.at(660).instant));
    // What a straggler does to the version while it waits is not held against the trial to come.
    bench.serve("1.5.0", Outcome::ServerError, 50);
    bench.control.look(bench.at(660));
    assert_eq!((bench.state(), bench.weight("1.5.0"), bench.view().cost.requests), ("running", percent(1), 0));
    assert!(bench.view().earlier_rollback.is_some());
}

#[test]
fn a_pause_freezes_the_weight_and_goes_on_when_fresh_figures_are_good() {
    let spec = DeploymentSpec { on_breach: OnBreach::Pause, cooldown: Duration::from_secs(60), ..a_spec() };
    let bench = Bench::new(intent(Some(spec)));
    bench.serve("1.5.0", Outcome::ServerError, 20);
    bench.control.look(bench.at(1));
    assert_eq!((bench.state(), bench.weight("1.5.0"), bench.epoch()), ("paused", percent(1), 1));
    bench.serve("1.5.0", Outcome::ServerError, 20);
    bench.control.look(bench.at(30));
    bench.serve("1.5.0", Outcome::Success, 20);
    bench.control.look(bench.at(61));
    assert_eq!(bench.state(), "paused", "the second breach was 31 s ago");
    bench.control.look(bench.at(90));
    assert_eq!((bench.state(), bench.weight("1.5.0"), bench.epoch()), ("running", percent(1), 1));
    assert_eq!(bench.control.counters()[0].tally.breaches, 1, "a pause that goes on is one breach");
}

#[test]
fn an_operator_rolls_back_what_is_live_and_is_told_what_is_not() {
    let bench = Bench::new(intent(Some(a_spec())));
    bench.serve("1.5.0", Outcome::Success, 3);
    let view = bench.rollback(bench.at(1)).expect("is running");
    let DeploymentState::RolledBack(rollback) = view.deployment.state else { panic!("{:?}", view.deployment) };
    assert_eq!(rollback.cause, RollbackCause::Operator { by: ada(), reason: Some("smells".into()) });
    assert_eq!((rollback.cost.requests, bench.weight("1.5.0"), bench.epoch()), (3, Weight::ZERO, 2));
    assert!(matches!(bench.rollback(bench.at(2)), Err(CommandError::Refused(_))));
    assert_eq!(bench.epoch(), 2, "a refused command publishes nothing");

    bench.control.apply_at(intent(None), bench.at(3)).expect("a good intent");
    assert_eq!(bench.rollback(bench.at(4)).map(|_| ()), Err(CommandError::NoDeployment(key())));
    bench.control.apply_at(Intent::default(), bench.at(5)).expect("no agents");
    assert_eq!(bench.rollback(bench.at(6)).map(|_| ()), Err(CommandError::UnknownAgent(key())));
}

#[test]
fn the_stable_version_cannot_be_rolled_back() {
    let mut promoted = an_agent();
    promoted.stable = VersionId::new("1.5.0");
    let bench = Bench::new(intent_of(promoted, Some(a_spec())));
    assert_eq!((bench.state(), bench.weight("1.5.0")), ("completed", Weight::FULL));
    assert!(matches!(bench.rollback(bench.at(1)), Err(CommandError::IsStable(_))));
}

#[test]
fn a_removed_agent_leaves_nothing_behind() {
    let bench = Bench::new(intent(Some(a_spec())));
    bench.rollback(bench.at(1)).expect("is running");
    bench.control.apply_at(Intent::default(), bench.at(2)).expect("no agents");
    assert!(bench.registry.versions().is_empty() && bench.registry.agents().is_empty());
    assert!(bench.control.counters().is_empty());
    bench.control.apply_at(intent(Some(a_spec())), bench.at(3)).expect("a good intent");
    assert_eq!(bench.state(), "running", "its rollbacks went with it");
}

#[tokio::test]
async fn only_a_guarded_canary_on_trial_rings_the_bell() {
    let bench = Bench::new(intent(Some(a_spec())));
    assert!(bench.rings("1.5.0").await);
    assert!(!bench.rings("1.4.2").await);
    // A changed block of the same version: the old watch's end must not silence the new one's start.
    let changed = DeploymentSpec { fingerprint: "second".into(), ..a_spec() };
    bench.control.apply_at(intent(Some(changed)), bench.at(1)).expect("a good intent");
    assert!(bench.rings("1.5.0").await);
    bench.rollback(bench.at(2)).expect("is running");
    assert!(!bench.rings("1.5.0").await);

    let unguarded = DeploymentSpec { guards: vec![], ..a_spec() };
    let bench = Bench::new(intent(Some(unguarded)));
    assert!(!bench.rings("1.5.0").await);
}

#[test]
fn the_next_look_is_the_nearest_deadline_and_a_tick_where_guards_watch() {
    let guarded = Bench::new(intent(Some(a_spec())));
    assert_eq!(guarded.control.next_look(guarded.at(0)), Some(guarded.at(1).instant));
    let unguarded = Bench::new(intent(Some(DeploymentSpec { guards: vec![], ..a_spec() })));
    assert_eq!(unguarded.control.next_look(unguarded.at(0)), Some(unguarded.at(600).instant));
    let manual = vec![step(5_000, None), step(100_000, None)];
    let manual = Bench::new(intent(Some(DeploymentSpec { guards: vec![], steps: manual, ..a_spec() })));
    assert_eq!(manual.control.next_look(manual.at(0)), None);
    let idle = Bench::new(intent(None));
    assert_eq!(idle.control.next_look(idle.at(0)), None);
}
