//! The wakers that upstream connections are polled with.
//!
//! hyper's halves of a connection wake each other as bytes move between them: the request sent wakes
//! the driver, the chunk taken wakes the driver, and so on. Here all of them belong to one task, which
//! is being polled when that happens and comes to the driver next anyway. Such a wake would only have
//! the whole task polled a second time (measured: four polls of a request instead of two).
//!
//! So a wake from within the task is noted instead of passed on. The next [`Damper::clear`], which
//! every drive begins with, answers it; one that nobody answers becomes a real wake when the poll ends.
//! All of it happens on one thread; the atomics are there because a waker must be `Send`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Wake, Waker};

/// A client connection's task, as its upstream connections wake it.
#[derive(Default)]
pub(super) struct Damper(Arc<Task>);

#[derive(Default)]
struct Task {
    /// The task is being polled.
    inside: AtomicBool,
    /// Somebody woke it meanwhile.
    noted: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Task {
    fn hear(&self) {
        if self.inside.load(Ordering::SeqCst) {
            self.noted.store(true, Ordering::SeqCst);
        } else {
            self.wake();
        }
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.lock().unwrap_or_else(PoisonError::into_inner) {
            waker.wake_by_ref();
        }
    }
}

impl Damper {
    /// The task's poll begins.
    pub fn enter(&self, waker: &Waker) {
        let mut known = self.0.waker.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *known = Some(waker.clone());
        }
        drop(known);
        self.0.inside.store(true, Ordering::SeqCst);
    }

    /// The task's poll ends.
    pub fn leave(&self) {
        self.0.inside.store(false, Ordering::SeqCst);
        if self.clear() {
            self.0.wake();
        }
    }

    /// Takes the note; says whether there was one.
    pub fn clear(&self) -> bool {
        // The plain load first: there rarely is one.
        self.0.noted.load(Ordering::SeqCst) && self.0.noted.swap(false, Ordering::SeqCst)
    }

    /// Notes that there is more to do, or wakes the task from outside of it.
    pub fn wake(&self) {
        self.0.hear();
    }
}

/// An upstream connection's waker: the same one for all of its life, so that it is registered once.
/// It wakes whoever uses the connection; an idle one wakes nobody.
pub(super) struct Link {
    user: Arc<User>,
    waker: Waker,
}

#[derive(Default)]
struct User(Mutex<Option<Arc<Task>>>);

impl Wake for User {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if let Some(task) = &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            task.hear();
        }
    }
}

impl Link {
    pub fn new() -> Self {
        let user: Arc<User> = Arc::default();
        Self { waker: user.clone().into(), user }
    }

    pub fn waker(&self) -> &Waker {
        &self.waker
    }

    pub fn attach(&self, damper: &Damper) {
        *self.user.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(damper.0.clone());
    }

    pub fn detach(&self) {
        *self.user.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
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

    fn wakes(script: impl FnOnce(&Damper, &Link)) -> usize {
        let counted = Arc::new(Counted::default());
        let (damper, link) = (Damper::default(), Link::new());
        link.attach(&damper);
        damper.enter(&counted.clone().into());
        script(&damper, &link);
        counted.0.load(Ordering::SeqCst)
    }

    #[test]
    fn a_wake_from_outside_is_passed_on() {
        let passed = wakes(|damper, link| {
            damper.leave();
            link.waker().wake_by_ref();
        });
        assert_eq!(passed, 1);
    }

    #[test]
    fn a_wake_from_within_that_is_answered_is_not() {
        let passed = wakes(|damper, link| {
            link.waker().wake_by_ref();
            assert!(damper.clear());
            damper.leave();
        });
        assert_eq!(passed, 0);
    }

    #[test]
    fn a_wake_from_within_that_nobody_answers_is_never_lost() {
        let passed = wakes(|damper, link| {
            link.waker().wake_by_ref();
            damper.leave();
        });
        assert_eq!(passed, 1);
    }

    #[test]
    fn an_idle_connection_wakes_nobody() {
        let passed = wakes(|damper, link| {
            damper.leave();
            link.detach();
            link.waker().wake_by_ref();
        });
        assert_eq!(passed, 0);
    }
}
