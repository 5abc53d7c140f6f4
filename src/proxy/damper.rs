//! The waker that upstream connections are polled with.
//!
//! hyper's halves of a connection wake each other as bytes move between them: the request sent wakes
//! the driver, the chunk taken wakes the driver, and so on. Here all of them belong to one task, which
//! is being polled when that happens and comes to the driver next anyway. Such a wake would only have
//! the whole task polled a second time (measured: four polls of a request instead of two).
//!
//! So a wake from within the task is noted instead of passed on. The next [`Damper::clear`], which
//! every drive begins with, answers it; one that nobody answers becomes a real wake when the poll ends.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Wake, Waker};

/// One per client connection.
pub(super) struct Damper {
    state: Arc<State>,
    waker: Waker,
}

#[derive(Default)]
struct State {
    /// The task is being polled.
    inside: AtomicBool,
    /// Somebody woke it meanwhile.
    noted: AtomicBool,
    task: Mutex<Option<Waker>>,
}

impl Wake for State {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.inside.load(Ordering::SeqCst) {
            self.noted.store(true, Ordering::SeqCst);
        } else {
            self.wake_task();
        }
    }
}

impl State {
    fn wake_task(&self) {
        if let Some(task) = &*self.task.lock().unwrap_or_else(PoisonError::into_inner) {
            task.wake_by_ref();
        }
    }
}

impl Damper {
    pub fn new() -> Self {
        let state: Arc<State> = Arc::default();
        Self { waker: state.clone().into(), state }
    }

    pub fn waker(&self) -> &Waker {
        &self.waker
    }

    /// The task's poll begins.
    pub fn enter(&self, task: &Waker) {
        let mut known = self.state.task.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.as_ref().is_some_and(|known| known.will_wake(task)) {
            *known = Some(task.clone());
        }
        drop(known);
        self.state.inside.store(true, Ordering::SeqCst);
    }

    /// The task's poll ends.
    pub fn leave(&self) {
        self.state.inside.store(false, Ordering::SeqCst);
        if self.clear() {
            self.state.wake_task();
        }
    }

    /// Takes the note; says whether there was one.
    pub fn clear(&self) -> bool {
        // The plain load first: there rarely is one.
        self.state.noted.load(Ordering::SeqCst) && self.state.noted.swap(false, Ordering::SeqCst)
    }

    /// Wakes the task from outside of it.
    pub fn wake_task(&self) {
        self.state.wake_task();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Counted(AtomicUsize);

    impl Wake for Counted {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn wakes(script: impl FnOnce(&Damper)) -> usize {
        let counted = Arc::new(Counted::default());
        let damper = Damper::new();
        damper.enter(&counted.clone().into());
        script(&damper);
        counted.0.load(Ordering::SeqCst)
    }

    #[test]
    fn a_wake_from_outside_is_passed_on() {
        assert_eq!(
            wakes(|damper| {
                damper.leave();
                damper.waker().wake_by_ref()
            }),
            1
        );
    }

    #[test]
    fn a_wake_from_within_that_is_answered_is_not() {
        assert_eq!(
            wakes(|damper| {
                damper.waker().wake_by_ref();
                assert!(damper.clear());
                damper.leave()
            }),
            0
        );
    }

    #[test]
    fn a_wake_from_within_that_nobody_answers_is_never_lost() {
        assert_eq!(
            wakes(|damper| {
                damper.waker().wake_by_ref();
                damper.leave()
            }),
            1
        );
    }
}
