//! What guards and time move: a breach at once, the steps of ramps once they are written.

use std::time::Duration;

use super::Control;
use super::orders::Asked;
use super::state::{Inner, Numbered};
use crate::control::change::Change;
use crate::control::command::CommandError;
use crate::control::model::Moment;
use crate::control::store::{Revision, StoreError};
use crate::control::writer::{ready, written};

/// When to look again for what had to wait for its turn, and for what could not be written.
const SOON: Duration = Duration::from_millis(100);
const LATER: Duration = Duration::from_secs(1);

impl Control {
    /// Judges, plans and acts on every live deployment.
    pub(in crate::control) fn look(&self, now: Moment) {
        let mut inner = self.0.lock();
        inner.retry = None;
        let Inner { live, agents, .. } = &mut *inner;
        let changes: Vec<_> = live.iter().filter_map(|key| agents.get_mut(key)?.look(now)).collect();
        let (urgent, timed): (Vec<_>, Vec<_>) = changes.into_iter().partition(Change::is_urgent);
        let told = match urgent.is_empty() {
            false => Some(self.at_once(&mut inner, urgent, now).0),
            true => inner.unpublished.then(|| self.0.install(&mut inner, Numbered::default(), now)),
        };
        let asked = if timed.is_empty() { None } else { self.ask_in_turn(&mut inner, timed, now) };
        drop(inner);
        if let Some(told) = told {
            if let Err(why) = &told.published {
                tracing::error!(%why, "the routing table could not be built; the last one stays, and this is tried again");
            }
            told.log();
        }
        if let Some(asked) = asked {
            self.advance(asked, now);
        }
    }

    /// What time moves: all of one look in one transaction, unless another change is being written.
    fn ask_in_turn(&self, inner: &mut Inner, changes: Vec<Change>, now: Moment) -> Option<Asked> {
        let Ok(turn) = self.0.turn.clone().try_lock_owned() else {
            inner.retry = now.instant.checked_add(SOON);
            return None;
        };
        Some(self.ask(inner, changes, turn, now))
    }

    fn advance(&self, Asked { changes, mut receipt, turn }: Asked, now: Moment) {
        if let Some(result) = ready(&mut receipt) {
            return self.advanced(changes, result, now);
        }
        let control = self.clone();
        tokio::spawn(async move {
            let result = written(receipt).await;
            control.advanced(changes, result, Moment::now());
            drop(turn);
        });
    }

    fn advanced(&self, changes: Numbered, result: Result<Revision, StoreError>, now: Moment) {
        let again = match result {
            Ok(_) => match self.put_into_effect(changes, now) {
                Err(overtaken @ CommandError::Conflict(_)) => {
                    tracing::debug!(%overtaken, "what time would have moved was overtaken");
                    now.instant.checked_add(SOON)
                }
                _ => return,
            },
            Err(why) => {
                tracing::error!(%why, "deployments stay where they are: their next step could not be written");
                now.instant.checked_add(LATER)
            }
        };
        self.0.lock().retry = again;
        self.0.changed.notify_one();
    }
}
