//! How a worker's connections share its one thread: how much one may do before the others have their turn, and who
//! comes next.
//!
//! What a connection does is counted: bytes that it reads from its client or writes to it, frames that it passes on, and
//! requests. A turn is [`TURN`] bytes or what costs as much, in one go or over time. Who has used it up draws a ticket and
//! waits until it is called, which happens to one after the other. When those who were called have done as much as a turn,
//! the worker looks for what has arrived meanwhile, and whoever has some of his turn left goes first. So a small request
//! waits for one turn of those with much to move, two at most, however many they are, and these have what is left, each as
//! much as the other. They are not starved: some are called each time that the worker looks, which is at the latest after
//! the runtime's 61 tasks. Where nobody else has anything to do, a ticket costs a trip through the worker's queue.
//!
//! Who has used up his turn so slowly that meanwhile more were called than wait now has waited as long as they have: he
//! begins another without a ticket. So a client that asks for little now and then never waits for all of them.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Poll, Waker};

/// The bytes of a turn.
const TURN: usize = 64 << 10;
/// What else counts as so many bytes: a frame, however short, and a request.
pub(super) const FRAME: usize = 256;
pub(super) const REQUEST: usize = 2 << 10;

thread_local! {
    /// What is left of the turn of whoever is polled now. A thread has one worker, and the socket deep within a
    /// connection should not have to know it.
    static LEFT: Cell<usize> = const { Cell::new(usize::MAX) };
    /// He has said himself that it is over.
    static ENDED: Cell<bool> = const { Cell::new(false) };
}

/// Counts what was done in this turn.
pub(super) fn charge(bytes: usize) {
    LEFT.set(LEFT.get().saturating_sub(bytes));
}

/// Ends this turn. The next one comes after those of all who wait now, however long this one has lasted.
pub(super) fn end_turn() {
    charge(usize::MAX);
    ENDED.set(true);
}

/// Asked before anything that is charged: with the turn used up it waits, and its task is polled again when it is called.
pub(super) fn poll_proceed() -> Poll<()> {
    if LEFT.get() == 0 { Poll::Pending } else { Poll::Ready(()) }
}

/// Those of a worker who have used up their turn.
#[derive(Default)]
pub(super) struct Turns {
    waiting: RefCell<VecDeque<Waker>>,
    /// Tickets that have been called; those who wait have the next ones, in this order.
    called: Cell<u64>,
    /// What those who were called have done since the worker has looked.
    done: Cell<usize>,
    caller: RefCell<Option<Waker>>,
}

struct Ticket(u64);

/// Lets everybody go first who can go on by now.
async fn to_the_end_of_the_queue() {
    let mut is_there = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut is_there, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

impl Turns {
    /// Calls those who wait, one after the other, for as long as the worker lives.
    pub async fn call(&self) {
        loop {
            poll_fn(|cx| self.poll_call(cx)).await;
            to_the_end_of_the_queue().await;
            if self.done.get() >= TURN {
                self.done.set(0);
                // Goes on when the worker has looked for what has arrived, and behind that.
                tokio::task::yield_now().await;
            }
        }
    }

    fn poll_call(&self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(next) = self.waiting.borrow_mut().pop_front() else {
            self.caller.replace(Some(cx.waker().clone()));
            return Poll::Pending;
        };
        self.called.set(self.called.get() + 1);
        next.wake();
        Poll::Ready(())
    }

    fn draw(&self, waker: &Waker) -> Ticket {
        self.waiting.borrow_mut().push_back(waker.clone());
        if let Some(caller) = self.caller.take() {
            caller.wake();
        }
        Ticket(self.called.get() + self.waiting.borrow().len() as u64)
    }

    /// Whether all who wait have had a turn since so many had been called.
    fn is_due(&self, begun: u64) -> bool {
        self.called.get() - begun > self.waiting.borrow().len() as u64
    }

    fn is_called(&self, ticket: &Ticket) -> bool {
        ticket.0 <= self.called.get()
    }
}

/// The turn of one task.
pub(super) struct Turn {
    left: usize,
    /// How many tickets had been called when it began.
    begun: u64,
    /// Until it is called, whatever else wakes the task.
    ticket: Option<Ticket>,
}

impl Turn {
    pub fn new(turns: &Turns) -> Self {
        Self { left: TURN, begun: turns.called.get(), ticket: None }
    }

    /// Its task is not polled before it is called.
    pub fn is_over(&self) -> bool {
        self.ticket.is_some()
    }

    /// Polls the task, if it may go on.
    pub fn poll<T>(
        &mut self,
        turns: &Turns,
        cx: &mut Context<'_>,
        task: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        if self.ticket.as_ref().is_some_and(|ticket| !turns.is_called(ticket)) {
            return Poll::Pending;
        }
        let was_called = self.ticket.take().is_some();
        if was_called {
            self.begun = turns.called.get();
        }
        LEFT.set(self.left);
        let polled = task(cx);
        let (left, ended) = (LEFT.replace(usize::MAX), ENDED.take());
        if was_called {
            turns.done.set(turns.done.get() + self.left - left);
        }
        self.left = left;
        if self.left == 0 && polled.is_pending() {
            self.left = TURN;
            if turns.is_due(self.begun) && !ended {
                self.begun = turns.called.get();
                cx.waker().wake_by_ref();
            } else {
                self.ticket = Some(turns.draw(cx.waker()));
            }
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use tokio::task::{LocalSet, spawn_local, yield_now};

    use super::*;

    /// Moves so many pieces as fast as it may, and tells of each.
    async fn moves(turns: Rc<Turns>, pieces: usize, bytes: usize, tell: impl Fn()) {
        let (mut turn, mut moved) = (Turn::new(&turns), 0);
        let mut piece = |_: &mut Context<'_>| {
            while moved < pieces {
                if poll_proceed().is_pending() {
                    return Poll::Pending;
                }
                charge(bytes);
                moved += 1;
                tell();
            }
            Poll::Ready(())
        };
        poll_fn(|cx| turn.poll(&turns, cx, &mut piece)).await;
    }

    async fn among_callers(test: impl AsyncFnOnce(Rc<Turns>)) {
        let local = LocalSet::new();
        let test = async {
            let turns = Rc::new(Turns::default());
            let caller = turns.clone();
            spawn_local(async move { caller.call().await });
            test(turns).await;
        };
        local.run_until(test).await;
    }

    #[tokio::test(flavor = "current_thread")]
    async fn those_with_much_to_move_take_turns_of_the_same_size() {
        among_callers(async |turns| {
            let order = Rc::new(RefCell::new(Vec::new()));
            let tasks = ["a", "b", "c"].map(|name| {
                let order = order.clone();
                spawn_local(moves(turns.clone(), 24, TURN / 8, move || order.borrow_mut().push(name)))
            });
            for task in tasks {
                task.await.expect("does not panic");
            }
            let order = order.borrow().chunk_by(PartialEq::eq).map(|turn| (turn[0], turn.len())).collect::<Vec<_>>();
            assert_eq!(order, ["a", "b", "c"].map(|name| (name, 8)).repeat(3));
        })
        .await;
    }

    #[tokio::test(flavor = "current_thread")]
    async fn who_has_some_of_his_turn_left_waits_for_one_of_the_others_at_most() {
        among_callers(async |turns| {
            let heavy = Rc::new(Cell::new(0));
            let count = || {
                let heavy = heavy.clone();
                move || heavy.set(heavy.get() + 1)
            };
            let tasks: Vec<_> = (0..100).map(|_| spawn_local(moves(turns.clone(), 100, TURN, count()))).collect();
            // Each has had its first turn.
            while heavy.get() < 100 {
                yield_now().await;
            }
            // All of these are of one client, who has less of them than any of the others.
            let (mut turn, mut longest) = (Turn::new(&turns), 0);
            for _ in 0..600 {
                let before = heavy.get();
                let mut is_begun = false;
                let mut request = |_: &mut Context<'_>| {
                    if !std::mem::replace(&mut is_begun, true) {
                        charge(TURN / 256);
                    }
                    poll_proceed()
                };
                poll_fn(|cx| turn.poll(&turns, cx, &mut request)).await;
                yield_now().await;
                longest = longest.max(heavy.get() - before);
            }
            assert!(longest <= 6, "{longest} turns of the others");
            assert!(heavy.get() >= 700, "they go on all the same");
            for task in tasks {
                task.await.expect("does not panic");
            }
            assert_eq!(heavy.get(), 10_000);
        })
        .await;
    }

    #[test]
    fn who_ends_his_turn_waits_behind_all_who_wait_however_long_it_has_lasted() {
        let (turns, mut cx) = (Turns::default(), Context::from_waker(Waker::noop()));
        let mut turn = Turn::new(&turns);
        let mut over = |turns: &Turns, end: fn()| {
            let polled: Poll<()> = turn.poll(turns, &mut cx, |_| {
                end();
                Poll::Pending
            });
            assert!(polled.is_pending());
            turn.ticket.as_ref().map(|ticket| ticket.0)
        };
        turns.called.set(10);
        turns.draw(Waker::noop());
        assert_eq!(over(&turns, || charge(TURN)), None, "has waited long enough");
        turns.called.set(20);
        assert_eq!(over(&turns, end_turn), Some(22), "one waits already");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn small_steps_use_up_a_turn_too() {
        among_callers(async |turns| {
            let mut turn = Turn::new(&turns);
            for _ in 0..TURN / 1024 {
                assert!(turn.ticket.is_none());
                // It waits for something each time.
                let step = poll_fn(|cx| {
                    let _: Poll<()> = turn.poll(&turns, cx, |_| {
                        charge(1024);
                        Poll::Pending
                    });
                    Poll::Ready(())
                });
                step.await;
            }
            assert!(turn.ticket.is_some() && turn.left == TURN);
            assert!(poll_proceed().is_ready(), "outside of a turn nothing is counted");
        })
        .await;
    }
}
