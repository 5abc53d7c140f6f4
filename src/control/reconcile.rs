//! The loop: a bell, a deadline or a command → judge, plan, publish.
//!
//! It takes no input but the state that [`Control`] holds, so looking once too often does no harm. Bounds: one
//! look per `MIN_GAP`, and at most a fifth of the thread's time where looks are dear; where nothing is live
//! and nothing rings, it sleeps.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::errands::Runner;
use super::model::Moment;
use super::service::Control;
use crate::tls::client::Clients;

/// Outcomes that come in meanwhile are judged together.
const MIN_GAP: Duration = Duration::from_millis(5);

/// Drives the deployments of one [`Control`]; there is one.
pub struct Reconciler {
    control: Control,
    runner: Runner,
}

impl Reconciler {
    pub(super) fn new(control: Control) -> Self {
        let runner = Runner::new(control.outside().clone(), Arc::default());
        Self { control, runner }
    }

    /// What is asked over TLS is asked with what is made of certificate files there.
    pub fn with_clients(mut self, clients: Arc<Clients>) -> Self {
        self.runner = Runner::new(self.control.outside().clone(), clients);
        self
    }

    /// Runs until `stop` says true, or its sender is gone.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let stopped = stop.wait_for(|stop| *stop);
        tokio::pin!(stopped);
        loop {
            tokio::select! {
                _ = &mut stopped => return,
                () = self.wanted() => {}
            }
            let begun = Instant::now();
            self.control.look(Moment::now());
            let gap = MIN_GAP.max(begun.elapsed() * 4);
            tokio::select! {
                _ = &mut stopped => return,
                () = tokio::time::sleep_until(begun + gap) => {}
            }
        }
    }

    /// Returns when there is a reason to look. A command only moves the deadline: it has done its own work.
    async fn wanted(&mut self) {
        loop {
            self.runner.run(self.control.errands());
            let next = self.control.next_look(Moment::now());
            let deadline = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.control.registry().bell().heard() => return,
                () = deadline => return,
                () = self.runner.news() => return,
                () = self.control.changed() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::command::{Command, Order};
    use crate::control::fixture::{a_spec, intent};
    use crate::control::model::{Actor, AgentKey, DeploymentSpec};
    use crate::control::view::DeploymentView;
    use crate::telemetry::stats::{Exchange, Outcome, StatsRegistry, StatusClass, VersionLabels};

    fn started(spec: DeploymentSpec) -> (Control, Arc<StatsRegistry>, watch::Sender<bool>) {
        let registry = Arc::new(StatsRegistry::new(1));
        let (control, reconciler) = Control::start(intent(Some(spec)), registry.clone()).expect("a good intent");
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(reconciler.run(stopped));
        (control, registry, stop)
    }

    fn view(control: &Control) -> DeploymentView {
        control.deployments().pop().expect("has a deployment")
    }

    fn fail(registry: &StatsRegistry, times: usize) {
        let (environment, agent, version) = ("production".into(), "support-bot".into(), "1.5.0".into());
        let stats = registry.version(VersionLabels { environment, agent, version });
        for _ in 0..times {
            stats.started(0);
            let (outcome, class) = (Outcome::ServerError, StatusClass::ServerError);
            stats.ended(0, &Exchange::plain(outcome, class, Duration::from_millis(1), None));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_bell_brings_the_verdict_long_before_any_timer() {
        let (control, registry, _stop) = started(a_spec());
        let begun = Instant::now();
        fail(&registry, 20);
        // Virtual time: what happens within it needed no timer but the gap between looks.
        tokio::time::sleep(MIN_GAP * 2).await;
        assert_eq!(view(&control).deployment.state.as_str(), "rolled_back");
        assert!(begun.elapsed() < Duration::from_millis(20), "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn deadlines_move_an_unguarded_ramp_on_time() {
        let (control, _registry, _stop) = started(DeploymentSpec { guards: vec![], ..a_spec() });
        let mut seen = Vec::new();
        for _ in 0..=101 {
            let now = (view(&control).deployment.weight().to_string(), view(&control).deployment.state.as_str());
            if seen.last() != Some(&now) {
                seen.push(now);
            }
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        let expected = [("1%", "running"), ("5%", "running"), ("100%", "baking"), ("100%", "completed")];
        assert_eq!(seen, expected.map(|(weight, state)| (weight.to_owned(), state)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_command_moves_the_deadline_of_a_sleeping_loop() {
        let (control, _registry, _stop) = started(DeploymentSpec { guards: vec![], ..a_spec() });
        tokio::time::sleep(Duration::from_secs(1)).await;
        let key: AgentKey = view(&control).key;
        let order = Order::by(Actor::new("ada", "api"));
        control.order(&key, None, Command::Rollback { to: None }, order).await.expect("is running");
        let second = DeploymentSpec { fingerprint: "second".into(), cooldown: Duration::from_secs(3), ..a_spec() };
        control.apply(intent(Some(second))).await.expect("a good intent");
        assert_eq!(view(&control).deployment.state.as_str(), "waiting");
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert_eq!(view(&control).deployment.state.as_str(), "running");
    }

    #[tokio::test(start_paused = true)]
    async fn it_stops_when_told_and_when_nobody_could_tell_it() {
        for drop_only in [false, true] {
            let registry = Arc::new(StatsRegistry::new(1));
            let (_control, reconciler) = Control::start(intent(Some(a_spec())), registry).expect("a good intent");
            let (stop, stopped) = watch::channel(false);
            let running = tokio::spawn(reconciler.run(stopped));
            if !drop_only {
                stop.send(true).expect("it listens");
            }
            drop(stop);
            tokio::time::timeout(Duration::from_secs(1), running).await.expect("it ends").expect("it does not panic");
        }
    }
}
