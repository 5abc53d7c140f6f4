//! What is in effect and what is written, while the disk misbehaves; and what the next process makes of it.

use std::sync::atomic::Ordering;

use super::*;
use crate::control::audit::{self, Entry};
use crate::control::fixture::{a_spec, an_agent, intent, step};
use crate::control::model::{Actor, DeploymentSpec, Intent};
use crate::control::store::Store;
use crate::control::store::faulty::Faulty;
use crate::control::writer::WriterThread;
use crate::telemetry::commits::CommitFigures;
use crate::telemetry::stats::{Exchange, Outcome, StatusClass, VersionLabels};

struct Instance {
    control: Control,
    thread: WriterThread,
    registry: Arc<StatsRegistry>,
}

fn open(store: &Arc<Faulty>, intent: Intent) -> Instance {
    let registry = Arc::new(StatsRegistry::new(1));
    let opened = Control::open(intent, registry.clone(), store.clone(), CommitFigures::default());
    let (control, _, thread) = opened.unwrap_or_else(|error| panic!("{error}"));
    Instance { control, thread, registry }
}

fn key() -> AgentKey {
    AgentKey::of(&an_agent())
}

fn ada() -> Order {
    Order::by(Actor::new("ada", "api 127.0.0.1"))
}

impl Instance {
    fn state(&self) -> &'static str {
        self.control.deployment(&key()).expect("has a deployment").deployment.state.as_str()
    }

    async fn order(&self, command: Command) -> Result<Done, CommandError> {
        self.control.order(&key(), None, command, ada()).await
    }

    /// Enough failures for the guard.
    fn fail(&self) {
        let (environment, agent, version) = ("production".into(), "support-bot".into(), "1.5.0".into());
        let stats = self.registry.version(VersionLabels { environment, agent, version });
        for _ in 0..50 {
            stats.started(0);
            let (outcome, class) = (Outcome::ServerError, StatusClass::ServerError);
            stats.ended(0, &Exchange::plain(outcome, class, Duration::from_millis(1), None));
        }
    }

    fn stop(self) {
        self.thread.stop();
    }
}

fn commands(store: &Faulty) -> Vec<String> {
    audit::verify(store, None).expect("is sound");
    audit::records(store, 0, 99).expect("can be read").into_iter().map(|record| record.entry.command).collect()
}

fn full(store: &Faulty, full: bool) {
    store.full.store(full, Ordering::SeqCst);
}

#[tokio::test]
async fn what_was_ordered_is_there_in_the_next_process() {
    let store = Arc::new(Faulty::default());
    let first = open(&store, intent(Some(a_spec())));
    let done = first.order(Command::Pause).await.expect("is running");
    let before = first.control.agent(&key()).expect("is there");
    assert_eq!((done.revision, first.state()), (before.revision, "paused"));
    first.stop();

    let second = open(&store, intent(Some(a_spec())));
    let after = second.control.agent(&key()).expect("is there");
    let (was, is) = (before.deployment.expect("paused"), after.deployment.expect("paused"));
    assert_eq!((&is.id, is.started.wall, is.state.as_str()), (&was.id, was.started.wall, "paused"));
    assert_eq!((after.revision, after.changed.len()), (before.revision, before.changed.len()));
    second.order(Command::Rollback { to: None }).await.expect("also while paused");
    let newest = second.control.audit(3, 9).await.expect("can be read").pop().expect("a record of it");
    let Entry { actor, command, before, after, .. } = newest.entry;
    assert_eq!((actor, command.as_str()), (Actor::new("ada", "api 127.0.0.1"), "rollback"));
    assert_eq!(before["deployment"]["state"]["is"], "paused");
    assert_eq!((&after["stable"], &after["deployment"]["state"]["is"]), (&"1.4.2".into(), &"rolled_back".into()));
    second.stop();

    let third = open(&store, intent(Some(a_spec())));
    assert_eq!(third.state(), "rolled_back");
    third.control.apply(intent(None)).await.expect("a good intent");
    third.control.apply(intent(Some(a_spec()))).await.expect("a good intent");
    assert_eq!(third.state(), "rolled_back", "the latch outlives processes");
    third.stop();
    assert_eq!(commands(&store), ["start", "reload", "pause", "start", "rollback", "start", "reload", "reload"]);
}

#[tokio::test]
async fn a_hold_goes_on_in_the_next_process() {
    let store = Arc::new(Faulty::default());
    let ramp = || DeploymentSpec { guards: vec![], steps: vec![step(1_000, Some(1)), step(100_000, None)], ..a_spec() };
    let first = open(&store, intent(Some(ramp())));
    let since = first.control.deployment(&key()).expect("is running").deployment.started.wall;
    first.stop();
    let second = open(&store, intent(Some(ramp())));
    assert_eq!(second.control.deployment(&key()).expect("is running").deployment.started.wall, since);
    let next = second.control.next_look(Moment::now()).expect("a deadline");
    assert!(next <= (Moment::now().instant + Duration::from_secs(1)), "what has passed is not waited for again");
    second.stop();
}

#[tokio::test]
async fn what_cannot_be_written_never_happened() {
    let store = Arc::new(Faulty::default());
    let instance = open(&store, intent(Some(a_spec())));
    full(&store, true);
    let refused = instance.order(Command::Advance).await.expect_err("there is no room");
    assert_eq!(refused, CommandError::Unwritten("the disk is full".into()));
    assert_eq!(instance.control.deployment(&key()).expect("is running").deployment.weight().get(), 1_000);
    full(&store, false);
    instance.order(Command::Advance).await.expect("there is room again");
    assert_eq!(instance.control.deployment(&key()).expect("is running").deployment.weight().get(), 5_000);
    instance.stop();
}

#[tokio::test]
async fn a_breach_is_in_effect_at_once_and_nothing_reopens_it_before_it_is_written() {
    let store = Arc::new(Faulty::default());
    let instance = open(&store, intent(Some(a_spec())));
    full(&store, true);
    instance.fail();
    instance.control.look(Moment::now());
    assert_eq!(instance.state(), "rolled_back");
    let retry = instance.order(Command::Retry).await.expect_err("the rollback is not written");
    assert_eq!(retry, CommandError::Unwritten("the disk is full".into()));
    assert!(!commands(&store).contains(&"rollback".to_owned()));
    full(&store, false);
    // Its turn comes after the rollback's.
    while instance.order(Command::Retry).await.is_err() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let written = commands(&store);
    let (rollback, retry) = (written.iter().position(|c| c == "rollback"), written.iter().position(|c| c == "retry"));
    assert!(rollback.is_some() && rollback < retry, "{written:?}");
    instance.stop();
}

#[tokio::test]
async fn an_operator_s_rollback_wants_no_room_either() {
    let store = Arc::new(Faulty::default());
    let instance = open(&store, intent(Some(a_spec())));
    full(&store, true);
    let (control, environment) = (instance.control.clone(), key().environment);
    let answer = tokio::spawn(async move { control.emergency_rollback(&environment, ada()).await });
    while instance.state() != "rolled_back" {
        tokio::task::yield_now().await;
    }
    full(&store, false);
    let done = answer.await.expect("does not panic").expect("written in the end");
    assert_eq!(done.len(), 1);
    assert_eq!(commands(&store).last().map(String::as_str), Some("rollback"));
    instance.stop();
}

#[tokio::test]
async fn a_breach_overtakes_a_command_that_the_disk_keeps_waiting() {
    let store = Arc::new(Faulty::default());
    let instance = open(&store, intent(Some(a_spec())));
    store.stalled.store(true, Ordering::SeqCst);
    let control = instance.control.clone();
    let waiting = tokio::spawn(async move { control.order(&key(), None, Command::Promote, ada()).await });
    while instance.control.0.turn.try_lock().is_ok() {
        tokio::task::yield_now().await;
    }
    instance.fail();
    instance.control.look(Moment::now());
    assert_eq!(instance.state(), "rolled_back", "no disk delays it");
    store.stalled.store(false, Ordering::SeqCst);
    let overtaken = waiting.await.expect("does not panic").expect_err("it came too late");
    assert!(matches!(overtaken, CommandError::Conflict(_)), "{overtaken}");
    assert_eq!(instance.state(), "rolled_back");
    instance.stop();
    assert_eq!(commands(&store), ["start", "reload", "promote", "rollback", "overtaken"]);
    let next = open(&store, intent(Some(a_spec())));
    assert_eq!(next.state(), "rolled_back");
    next.stop();
}

#[tokio::test]
async fn what_time_moves_waits_for_the_disk_and_is_tried_again() {
    let store = Arc::new(Faulty::default());
    let instance = open(&store, intent(Some(DeploymentSpec { guards: vec![], ..a_spec() })));
    let weight = || instance.control.deployment(&key()).expect("is running").deployment.weight().get();
    let later = Moment::now().checked_add(Duration::from_secs(601)).expect("soon");
    full(&store, true);
    instance.control.look(later);
    // Held until the disk has answered.
    drop(instance.control.0.turn.lock().await);
    assert_eq!(weight(), 1_000);
    assert!(instance.control.next_look(Moment::now()).is_some_and(|at| at < later.instant), "tried again before long");
    full(&store, false);
    instance.control.look(later);
    drop(instance.control.0.turn.lock().await);
    assert_eq!(weight(), 5_000);
    instance.stop();
    assert_eq!(commands(&store).last().map(String::as_str), Some("advance"));
}

#[tokio::test]
async fn an_agent_that_leaves_the_file_leaves_the_store() {
    let store = Arc::new(Faulty::default());
    let instance = open(&store, intent(Some(a_spec())));
    instance.control.apply(Intent::default()).await.expect("no agents");
    instance.stop();
    assert_eq!(crate::control::store::Documents::range(&*store, "agents/", None, 9), Ok(vec![]));
    assert_eq!(commands(&store), ["start", "reload", "remove"]);
    assert!(*store.revision().borrow() > 0);
}
