//! Migrations and drains over real tables and real pins; times are said, not waited for.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::*;
use crate::control::audit;
use crate::control::command::{Command, CommandError, Order, Refusal};
use crate::control::fixture::{a_spec, an_agent, an_agent_that_talks, intent_of, step};
use crate::control::migration::{Migration, MigrationRequest, Pace, Progress, RequestedMode, State};
use crate::control::model::{DeploymentSpec, Strategy};
use crate::control::reconcile::Reconciler;
use crate::control::store::memory::Memory;
use crate::control::writer::WriterThread;
use crate::routing::conversation::PinPolicy;
use crate::routing::ids::{AgentId, EnvironmentId, VersionId};
use crate::routing::pin::{Hold, second};
use crate::telemetry::checkpoints::CheckpointFigures;
use crate::telemetry::commits::CommitFigures;

struct Bench {
    control: Control,
    registry: Arc<StatsRegistry>,
    store: Arc<Memory>,
    start: Instant,
    wall: SystemTime,
    _running: (Reconciler, Option<WriterThread>),
}

/// All at once, and baked for an hour.
fn blue_green() -> DeploymentSpec {
    DeploymentSpec { strategy: Strategy::BlueGreen, steps: vec![step(100_000, None)], guards: vec![], ..a_spec() }
}

fn key() -> AgentKey {
    AgentKey { environment: EnvironmentId::new("production"), agent: AgentId::new("support-bot") }
}

fn ada() -> Order {
    Order { reason: Some("moving day".into()), ..Order::by(Actor::new("ada", "api")) }
}

fn to_1_5(mode: RequestedMode) -> MigrationRequest {
    MigrationRequest { from: VersionId::new("1.4.2"), to: VersionId::new("1.5.0"), mode }
}

impl Bench {
    fn new(deployment: Option<DeploymentSpec>) -> Self {
        Self::open(Arc::new(Memory::default()), deployment)
    }

    fn open(store: Arc<Memory>, deployment: Option<DeploymentSpec>) -> Self {
        let registry = Arc::new(StatsRegistry::new(1));
        let intent = intent_of(an_agent_that_talks(), deployment);
        let opened = Control::open(intent, registry.clone(), store.clone(), CommitFigures::default());
        let (control, reconciler, writer) = opened.expect("a good intent");
        Self {
            control,
            registry,
            store,
            start: Instant::now(),
            wall: SystemTime::now(),
            _running: (reconciler, Some(writer)),
        }
    }

    /// So long after the start, which was real: so are the times at which migrations begin.
    fn at(&self, seconds: u64) -> Moment {
        let by = Duration::from_secs(seconds);
        Moment { instant: self.start + by, wall: self.wall + by }
    }

    fn begin(&self, number: u32, version: &str, at: Moment) -> Hold {
        let table = self.control.table().load_full();
        let agent = table.agent("production", "support-bot").expect("is in the table");
        let (_, seat) = agent.conversations(self.control.pins()).expect("it talks");
        let index = agent.versions.iter().position(|known| known.id.as_str() == version).expect("has it");
        let key = seat.key(format!("c{number}").as_bytes()).expect("an id");
        let made = self.control.pins().make(seat, key, index, second(at.wall));
        made.expect("there is room").0
    }

    fn fill(&self, numbers: std::ops::Range<u32>, version: &str) {
        for number in numbers {
            drop(self.begin(number, version, self.at(0)));
        }
    }

    async fn migrate(&self, mode: RequestedMode) -> Result<MigrationDone, CommandError> {
        self.control.migrate(&key(), to_1_5(mode), ada()).await
    }

    fn newest(&self) -> Migration {
        self.control.migrations(&key()).into_iter().next().expect("there is one")
    }

    /// At 1.4.2 and at 1.5.0.
    fn counts(&self) -> (u64, u64) {
        let all = self.control.conversations(&key());
        let of = |version: &str| {
            all.iter().find(|counts| counts.version.as_str() == version).map_or(0, |counts| counts.conversations)
        };
        (of("1.4.2"), of("1.5.0"))
    }

    fn events(&self) -> Vec<(&'static str, String)> {
        let events = self.control.events_since(0).expect("all are kept");
        let told = |event: &Event| (event.kind.as_str(), event.version.to_string());
        let of_conversations = |(kind, _): &(&str, String)| kind.starts_with("migration") || *kind == "drained";
        events.iter().map(told).filter(of_conversations).collect()
    }

    /// Whatever was insisted on is written before what is asked now.
    async fn records(&self) -> Vec<String> {
        let _ = crate::control::writer::written(self.control.0.book.writer.ask(Default::default())).await;
        let records = audit::records(&*self.store, 0, 1_000).expect("can be read");
        records.into_iter().map(|record| record.entry.command).filter(|command| command.contains("migrat")).collect()
    }
}

#[tokio::test]
async fn all_move_at_once_but_those_whose_response_is_in_flight() {
    let bench = Bench::new(None);
    bench.fill(0..1_000, "1.4.2");
    let held: Vec<_> = (1_000..1_003).map(|number| bench.begin(number, "1.4.2", bench.at(0))).collect();
    let done = bench.migrate(RequestedMode::Immediate).await.expect("both versions are there");
    assert_eq!((done.migration.total, done.migration.progress.busy, bench.counts()), (1_003, 3, (1_003, 0)));
    assert!(done.changes.iter().any(|line| line.contains("3 have a response in flight")), "{:?}", done.changes);

    bench.control.keep(bench.at(0));
    assert_eq!(bench.newest().progress, Progress { moved: 1_000, remaining: 3, busy: 3 });
    // One that begins at 1.4.2 now is none of its business.
    drop(bench.begin(5_000, "1.4.2", bench.at(600)));
    drop(held);
    bench.control.keep(bench.at(61));
    assert_eq!((bench.newest().progress.moved, bench.newest().state.as_str()), (1_003, "completed"));
    assert_eq!(bench.counts(), (1, 1_003), "none is lost");
    let events = [("migration_started", "1.5.0".to_owned()), ("migration_completed", "1.5.0".into())];
    assert_eq!(bench.events(), events);
    assert_eq!(bench.records().await, ["migrate", "complete migration"]);
}

#[tokio::test]
async fn a_gradual_one_keeps_its_pace_and_its_promise() {
    let bench = Bench::new(None);
    bench.fill(0..100, "1.4.2");
    let done = bench.migrate(RequestedMode::Gradual(Pace::PerSecond(10))).await.expect("both versions are there");
    let started = done.migration.started;
    let after = |seconds: u64| started.checked_add(Duration::from_secs(seconds)).expect("soon");
    assert_eq!(done.migration.estimated_end(), Some(after(10)));
    for (seconds, moved) in [(0, 0), (1, 10), (2, 20), (9, 90), (10, 100)] {
        bench.control.keep(after(seconds));
        assert_eq!((bench.counts().1, bench.newest().progress.moved), (moved, moved), "after {seconds} s");
    }
    assert_eq!(bench.newest().state, State::Completed { at: after(10) });
}

#[tokio::test]
async fn a_list_moves_only_those_that_it_names() {
    let bench = Bench::new(None);
    bench.fill(0..10, "1.4.2");
    bench.fill(20..21, "1.5.0");
    let listed = ["c1", "c2", "c2", "c20", "unheard of"].map(str::to_owned).to_vec();
    let done = bench.migrate(RequestedMode::Manual(listed)).await.expect("both versions are there");
    assert_eq!((done.migration.total, done.migration.elsewhere()), (2, Some(2)), "each is counted once");
    bench.control.keep(bench.at(0));
    assert_eq!((bench.counts(), bench.newest().state.as_str()), ((8, 3), "completed"));
    let version = |id: &str| bench.control.conversation(&key(), id).expect("is pinned").version.to_string();
    assert_eq!((version("c1"), version("c3")), ("1.5.0".into(), "1.4.2".into()));
}

#[tokio::test]
async fn what_cannot_be_done_is_refused_with_the_reason() {
    let bench = Bench::new(None);
    bench.fill(0..10, "1.4.2");
    let order = |from: &str, to: &str, mode| {
        let request = MigrationRequest { from: VersionId::new(from), to: VersionId::new(to), mode };
        let control = bench.control.clone();
        async move { control.migrate(&key(), request, ada()).await.map(drop) }
    };
    let fields = |error: CommandError| match error {
        CommandError::Invalid(errors) => errors.into_iter().map(|error| error.field).collect::<Vec<_>>(),
        error => panic!("{error:?}"),
    };
    let slow = RequestedMode::Gradual(Pace::PerSecond(1));
    let wrong = [
        ("1.4.2", "9.9.9", RequestedMode::Immediate, vec!["to"]),
        ("0.0.1", "9.9.9", RequestedMode::Immediate, vec!["from", "to"]),
        ("1.4.2", "1.4.2", RequestedMode::Immediate, vec!["to"]),
        ("1.4.2", "1.5.0", RequestedMode::Gradual(Pace::PerSecond(0)), vec!["perSecond"]),
        ("1.4.2", "1.5.0", RequestedMode::Manual(vec![]), vec!["conversations"]),
    ];
    for (from, to, mode, expected) in wrong {
        assert_eq!(
            fields(order(from, to, mode.clone()).await.expect_err("is refused")),
            expected,
            "{from} {to} {mode:?}"
        );
    }
    assert_eq!(order("1.4.2", "1.5.0", slow.clone()).await, Ok(()));
    // Nothing that would pull at the same conversations, or drive them in circles.
    for (from, to) in [("1.4.2", "1.6.0"), ("1.5.0", "1.4.2"), ("1.5.0", "1.6.0"), ("1.6.0", "1.4.2")] {
        let refused = order(from, to, slow.clone()).await;
        assert!(matches!(refused, Err(CommandError::Refused(Refusal::Migrating { .. }))), "{from} {to}: {refused:?}");
    }
    // Two may share their target.
    assert_eq!(order("1.6.0", "1.5.0", slow).await, Ok(()));

    let silent = Bench {
        control: Control::start(intent_of(an_agent(), None), bench.registry.clone()).expect("good").0,
        ..bench
    };
    let refused = silent.migrate(RequestedMode::Immediate).await.map(drop);
    assert_eq!(refused, Err(Refusal::NoConversations.into()));
}

#[tokio::test]
async fn a_dry_run_tells_all_and_changes_nothing() {
    let bench = Bench::new(None);
    bench.fill(0..60, "1.4.2");
    let order = Order { dry_run: true, ..ada() };
    let request = to_1_5(RequestedMode::Gradual(Pace::PerSecond(1)));
    let done = bench.control.migrate(&key(), request, order.clone()).await.expect("it could begin");
    assert_eq!(done.migration.estimated_end().expect("it has a pace").since(done.migration.started).as_secs(), 60);
    assert_eq!((bench.control.migrations(&key()).len(), bench.records().await.len()), (0, 0));
    bench.control.keep(bench.at(100));
    assert_eq!(bench.counts(), (60, 0));
    // Nor does a cancelling, or an unpinning.
    let id = bench.migrate(RequestedMode::Gradual(Pace::PerSecond(1))).await.expect("it begins").migration.id;
    let would = bench.control.cancel_migration(&key(), id.as_str(), order.clone()).await.expect("it could end");
    assert_eq!((would.migration.state.as_str(), bench.newest().state.as_str()), ("cancelled", "running"));
    bench.control.unpin(&key(), "c1", order).await.expect("it could be forgotten");
    assert!(bench.control.conversation(&key(), "c1").is_ok());
}

#[tokio::test]
async fn one_that_is_cancelled_leaves_everybody_where_they_are() {
    let bench = Bench::new(None);
    bench.fill(0..100, "1.4.2");
    let done = bench.migrate(RequestedMode::Gradual(Pace::PerSecond(10))).await.expect("both versions are there");
    let (id, started) = (done.migration.id.to_string(), done.migration.started);
    bench.control.keep(started.checked_add(Duration::from_secs(4)).expect("soon"));
    let done = bench.control.cancel_migration(&key(), &id, ada()).await.expect("it runs");
    assert_eq!(done.changes, ["40 conversations have moved, and stay at 1.5.0", "60 stay at 1.4.2"]);
    bench.control.keep(started.checked_add(Duration::from_secs(60)).expect("soon"));
    assert_eq!(bench.counts(), (60, 40));
    let again = bench.control.cancel_migration(&key(), &id, ada()).await.map(drop);
    assert_eq!(again, Err(Refusal::MigrationOver { id: id.clone(), state: "cancelled" }.into()));
    let unknown = bench.control.cancel_migration(&key(), "none", ada()).await.map(drop);
    assert_eq!(unknown, Err(CommandError::UnknownMigration { key: key(), id: "none".into() }));
    assert_eq!(bench.records().await, ["migrate", "cancel migration"]);
    assert_eq!(bench.migrate(RequestedMode::Immediate).await.map(drop), Ok(()), "the way is free again");
}

#[tokio::test]
async fn a_rollback_of_the_target_ends_it_and_frees_the_conversations() {
    let bench = Bench::new(Some(a_spec()));
    bench.fill(0..100, "1.4.2");
    let done = bench.migrate(RequestedMode::Gradual(Pace::PerSecond(10))).await.expect("1.5.0 is on trial");
    bench.control.keep(done.migration.started.checked_add(Duration::from_secs(4)).expect("soon"));
    assert_eq!(bench.counts(), (60, 40));
    bench.control.order(&key(), None, Command::Rollback { to: None }, ada()).await.expect("is running");
    bench.control.keep(bench.at(5));
    let State::Cancelled { by, why, .. } = bench.newest().state else { panic!("{:?}", bench.newest()) };
    assert_eq!((by, why.as_deref()), (Actor::pointsman(), Some("the deployment of 1.5.0 is rolled_back")));
    // Their next turn is decided anew.
    assert_eq!(bench.counts(), (60, 0));
    let refused = bench.migrate(RequestedMode::Immediate).await.map(drop);
    assert_eq!(refused, Err(Refusal::Barred { version: VersionId::new("1.5.0"), state: "rolled_back" }.into()));
}

#[tokio::test]
async fn a_conversation_does_not_outlive_its_version() {
    let bench = Bench::new(None);
    bench.fill(0..10, "1.4.2");
    bench.fill(10..20, "1.6.0");
    let mut spec = an_agent_that_talks();
    spec.versions.remove(&VersionId::new("1.6.0"));
    bench.control.apply(intent_of(spec, None)).await.expect("a good intent");
    bench.control.keep(bench.at(1));
    assert_eq!((bench.control.pins().len(), bench.counts().0), (10, 10));
    bench.control.apply(intent_of(an_agent(), None)).await.expect("it talks no more");
    bench.control.keep(bench.at(2));
    assert_eq!(bench.control.pins().len(), 0);
}

#[tokio::test]
async fn a_version_that_gets_no_more_traffic_is_watched_until_nothing_is_left() {
    let bench = Bench::new(None);
    bench.fill(0..2, "1.4.2");
    bench.control.keep(bench.at(0));
    assert!(bench.control.draining(&key()).is_empty(), "it serves");
    bench.control.apply(intent_of(an_agent_that_talks(), Some(blue_green()))).await.expect("a good intent");
    bench.control.order(&key(), None, Command::Promote, ada()).await.expect("it bakes");
    bench.control.keep(bench.at(1));
    let draining = bench.control.draining(&key());
    let [old] = &*draining else { panic!("{draining:?}") };
    assert_eq!((old.version.as_str(), old.load.conversations, old.load.in_flight), ("1.4.2", 2, 0));
    assert_eq!(old.since.wall, bench.control.draining(&key())[0].since.wall);

    bench.control.unpin(&key(), "c0", ada()).await.expect("is pinned");
    bench.control.keep(bench.at(2));
    assert_eq!(bench.control.draining(&key())[0].load.conversations, 1);
    bench.control.unpin(&key(), "c1", ada()).await.expect("is pinned");
    assert_eq!(bench.control.unpin(&key(), "c1", ada()).await, Err(CommandError::UnknownConversation(key())));
    bench.control.keep(bench.at(3));
    assert!(bench.control.draining(&key()).is_empty());
    assert_eq!(bench.events(), [("drained", "1.4.2".to_owned())]);
    bench.control.keep(bench.at(4));
    assert_eq!(bench.events().len(), 1, "it is said once");
}

#[tokio::test]
async fn under_upgrade_at_turn_a_drain_waits_for_turns_and_not_for_conversations() {
    let mut agent = an_agent_that_talks();
    let talks = agent.conversations.as_mut().expect("it talks");
    talks.policy = PinPolicy::UpgradeAtTurn { grace: Duration::from_secs(30) };
    let bench = Bench::new(None);
    bench.control.apply(intent_of(agent.clone(), None)).await.expect("a good intent");
    bench.fill(0..10, "1.4.2");
    let held = bench.begin(10, "1.4.2", bench.at(0));
    bench.control.apply(intent_of(agent, Some(blue_green()))).await.expect("a good intent");
    bench.control.keep(bench.at(0));
    bench.control.order(&key(), None, Command::Promote, ada()).await.expect("it bakes");
    for (seconds, left) in [(1, 11), (20, 11), (60, 1)] {
        bench.control.keep(bench.at(seconds));
        assert_eq!(bench.control.draining(&key())[0].load.conversations, left, "after {seconds} s");
    }
    held.end(second(bench.at(60).wall));
    bench.control.keep(bench.at(61));
    assert_eq!(bench.events(), []);
    bench.control.keep(bench.at(120));
    assert_eq!(bench.events(), [("drained", "1.4.2".to_owned())]);
}

#[tokio::test]
async fn after_its_drain_time_a_replaced_version_gives_its_conversations_away() {
    let spec = DeploymentSpec { drain_timeout: Some(Duration::from_secs(3_600)), ..blue_green() };
    let bench = Bench::new(None);
    bench.fill(0..10, "1.4.2");
    bench.control.apply(intent_of(an_agent_that_talks(), Some(spec))).await.expect("a good intent");
    bench.control.order(&key(), None, Command::Promote, ada()).await.expect("it bakes");
    for seconds in [0, 60, 3_000] {
        bench.control.keep(bench.at(seconds));
        assert_eq!(bench.counts(), (10, 0), "after {seconds} s");
    }
    let held = bench.begin(3, "1.4.2", bench.at(3_900));
    bench.control.keep(bench.at(4_000));
    bench.control.keep(bench.at(4_001));
    assert_eq!((bench.counts(), bench.newest().state.as_str()), ((1, 9), "running"));
    assert_eq!(bench.newest().reason.as_deref(), Some("its drain_timeout of 1h is over"));
    drop(held);
    bench.control.keep(bench.at(4_002));
    bench.control.keep(bench.at(4_003));
    assert_eq!((bench.counts(), bench.newest().state.as_str()), ((0, 10), "completed"));
    assert_eq!(
        (bench.control.migrations(&key()).len(), bench.events().last().map(|(kind, _)| *kind)),
        (1, Some("drained"))
    );
}

#[tokio::test]
async fn a_restart_goes_on_from_where_the_conversations_are() {
    let bench = Bench::new(None);
    bench.fill(0..100, "1.4.2");
    let done = bench.migrate(RequestedMode::Gradual(Pace::PerSecond(1))).await.expect("both versions are there");
    bench.control.keep(done.migration.started.checked_add(Duration::from_secs(40)).expect("soon"));
    let keeper = crate::control::keeper::Keeper::new(bench.control.clone());
    let (stop, stopped) = tokio::sync::watch::channel(true);
    keeper.run(stopped).await;
    drop(stop);
    assert_eq!(bench.control.checkpoints().map(CheckpointFigures::counted), Some((1, 0)), "a clean stop writes");
    // What moves now is in no checkpoint: the process is killed.
    bench.control.keep(done.migration.started.checked_add(Duration::from_secs(50)).expect("soon"));
    assert_eq!(bench.counts(), (50, 50));

    let next = Bench::open(bench.store.clone(), None);
    assert_eq!(next.counts(), (60, 40));
    assert_eq!((next.newest().id, next.newest().progress.moved), (done.migration.id, 40));
    // A second more: a moment that was read back may be a little off on the monotonic clock.
    next.control.keep(done.migration.started.checked_add(Duration::from_secs(101)).expect("soon"));
    assert_eq!((next.counts(), next.newest().state.as_str()), ((0, 100), "completed"));
    assert_eq!(next.records().await.last().map(String::as_str), Some("complete migration"), "it is written");
    let last = Bench::open(bench.store.clone(), None);
    assert_eq!(last.newest().state.as_str(), "completed");
}
