//! How much one connection may move before the worker's other connections have their turn.
//!
//! A task ends its turn when its socket has nothing more, or takes nothing more. One that always has more would go on
//! until the runtime's budget is used up, which counts operations: with 64 KiB each, 128 of them are 8 MiB, and where
//! many clients send that much, a small request waits for all of them. So bytes count as well: a turn is about 128 KiB.
//! What is left then comes next time; nothing is lost by it but a trip through the worker's queue.

use std::task::{Context, Poll};

use tokio::task::coop::poll_proceed;

/// So many bytes count as one operation more.
const BYTES_OF_ONE: usize = 1 << 10;

/// These bytes were moved in this turn. With the budget used up, the next operation waits, and wakes the task itself.
pub(super) fn charge(cx: &mut Context<'_>, bytes: usize) {
    for _ in 0..bytes / BYTES_OF_ONE {
        match poll_proceed(cx) {
            Poll::Ready(one) => one.made_progress(),
            Poll::Pending => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn a_turn_is_bounded_in_bytes_and_the_next_one_comes() {
        const PIECE: usize = 64 << 10;
        let turn = || {
            poll_fn(|cx| {
                let mut moved = 0;
                while poll_proceed(cx).is_ready() {
                    charge(cx, PIECE);
                    moved += PIECE;
                    assert!(moved < 1 << 20, "it never ends");
                }
                Poll::Ready(moved)
            })
        };
        for _ in 0..3 {
            tokio::task::yield_now().await;
            let moved = turn().await;
            assert!(moved >= PIECE, "{moved}");
        }
        // What is small is not counted.
        let small = poll_fn(|cx| {
            (0..10_000).for_each(|_| charge(cx, 1000));
            Poll::Ready(poll_proceed(cx).is_ready())
        });
        tokio::task::yield_now().await;
        assert!(small.await);
    }
}
