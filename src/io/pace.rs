//! A budget of handshakes per turn of the loop. A handshake costs as much CPU as ten requests; in a flood of
//! them a worker would spend whole turns on strangers. What is over the budget waits for the next turn, so
//! that established connections are served in between.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::task::{Poll, Waker};

use super::sys::Socket;
use crate::limits;

/// The worker's budget.
#[derive(Debug)]
pub(super) struct Pace {
    left: Cell<u32>,
    waiting: RefCell<VecDeque<Waker>>,
    refill: RefCell<Option<Waker>>,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self {
            left: Cell::new(limits::HANDSHAKES_PER_TURN),
            waiting: RefCell::new(VecDeque::new()),
            refill: RefCell::new(None),
        }
    }

    /// Takes one step of a handshake out of the budget; `false`: `waker` is woken in a later turn.
    pub(super) fn spend(&self, waker: &Waker) -> bool {
        let left = self.left.get();
        if left > 0 {
            self.left.set(left - 1);
            if left == 1 {
                self.refill.borrow_mut().take().into_iter().for_each(Waker::wake);
            }
            return true;
        }
        self.waiting.borrow_mut().push_back(waker.clone());
        false
    }

    /// A new turn: as many of those that wait as the budget allows go on, first come, first served.
    fn renew(&self) {
        self.left.set(limits::HANDSHAKES_PER_TURN);
        let mut waiting = self.waiting.borrow_mut();
        let next = waiting.len().min(limits::HANDSHAKES_PER_TURN as usize);
        let woken: Vec<Waker> = waiting.drain(..next).collect();
        drop(waiting);
        woken.into_iter().for_each(Waker::wake);
    }
}

/// Renews the budget once it is spent and a turn has passed. Which turn it is, is told by an operation that
/// ends as soon as the kernel sees it: a look at a socket that has something to read.
pub(super) async fn keep(pace: Rc<Pace>) {
    let Ok((ready, other)) = always_readable() else { return };
    loop {
        std::future::poll_fn(|cx| {
            if pace.left.get() == 0 {
                return Poll::Ready(());
            }
            *pace.refill.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
        if ready.readable().await.is_err() {
            break;
        }
        pace.renew();
    }
    drop(other);
}

fn always_readable() -> std::io::Result<(Socket, UnixStream)> {
    use std::io::Write;
    let (ready, mut other) = UnixStream::pair()?;
    other.write_all(&[1])?;
    Ok((Socket::from_unix(ready)?, other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_over_the_budget_waits_for_a_later_turn_in_order() {
        let pace = Pace::new();
        for _ in 0..limits::HANDSHAKES_PER_TURN {
            assert!(pace.spend(Waker::noop()));
        }
        for _ in 0..limits::HANDSHAKES_PER_TURN + 1 {
            assert!(!pace.spend(Waker::noop()));
        }
        pace.renew();
        assert_eq!(pace.waiting.borrow().len(), 1);
        assert!(pace.spend(Waker::noop()));
    }
}
