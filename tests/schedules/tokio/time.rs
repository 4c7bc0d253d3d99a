//! Time that passes whenever the explorer likes: a sleep ends at any moment after it has begun, and the clock then says
//! so. One of an hour or more never ends, so that what would wait for it in vain is found to be stuck.

use std::future::Future;
use std::ops::{Add, Sub};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::future::{Either, select};
use shuttle::rand::Rng;

/// A sleep of this length or more doesn't end.
pub const NEVER: Duration = Duration::from_secs(3600);

shuttle::lazy_static! {
    /// Of one schedule. Held for a moment only, in which the explorer can't switch.
    static ref NOW: Mutex<Duration> = Mutex::new(Duration::ZERO);
}

/// A moment of the schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant(Duration);

impl Instant {
    pub fn now() -> Self {
        Self(*NOW.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn checked_add(self, duration: Duration) -> Option<Self> {
        self.0.checked_add(duration).map(Self)
    }

    pub fn elapsed(&self) -> Duration {
        Self::now() - *self
    }

    /// The clock never goes back.
    fn arrive(self) {
        let mut now = NOW.lock().unwrap_or_else(PoisonError::into_inner);
        *now = self.0.max(*now);
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }
}

impl Sub for Instant {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// A wait. It begins with the first poll.
pub struct Sleep {
    deadline: Instant,
    timer: Option<Arc<Mutex<Timer>>>,
}

enum Timer {
    Set(Waker),
    /// Nobody waits for it any more.
    Dropped,
}

impl Sleep {
    pub fn deadline(&self) -> Instant {
        self.deadline
    }
}

pub fn sleep(duration: Duration) -> Sleep {
    sleep_until(Instant::now() + duration)
}

pub fn sleep_until(deadline: Instant) -> Sleep {
    Sleep { deadline, timer: None }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let (now, deadline) = (Instant::now(), self.deadline);
        if now >= deadline {
            return Poll::Ready(());
        }
        let set = Timer::Set(context.waker().clone());
        if let Some(timer) = &self.timer {
            *timer.lock().unwrap_or_else(PoisonError::into_inner) = set;
        } else if deadline - now < NEVER {
            let timer = Arc::new(Mutex::new(set));
            self.timer = Some(timer.clone());
            // Whenever the explorer lets this task run, the time has come: at once, or when others have had their turn.
            drop(shuttle::future::spawn(async move {
                if shuttle::rand::thread_rng().gen_bool(0.5) {
                    shuttle::future::yield_now().await;
                }
                let timer =
                    std::mem::replace(&mut *timer.lock().unwrap_or_else(PoisonError::into_inner), Timer::Dropped);
                if let Timer::Set(waker) = timer {
                    deadline.arrive();
                    waker.wake();
                }
            }));
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(timer) = &self.timer {
            *timer.lock().unwrap_or_else(PoisonError::into_inner) = Timer::Dropped;
        }
    }
}

/// The time was over first.
#[derive(Debug)]
pub struct Elapsed;

pub async fn timeout<F: Future>(duration: Duration, future: F) -> Result<F::Output, Elapsed> {
    match select(pin!(future), sleep(duration)).await {
        Either::Left((output, _)) => Ok(output),
        Either::Right(((), _)) => Err(Elapsed),
    }
}
