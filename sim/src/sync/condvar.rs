//! Waiting for something to become true.

use core::time::Duration;
use std::sync::LockResult;

use super::{MutexGuard, Name, after};
use crate::coop::{self, CondId, Op, Reply};

/// `std::sync::Condvar`. Whom [`notify_one`](Condvar::notify_one) wakes is the search's
/// choice; nobody wakes without having been notified.
#[derive(Debug)]
pub struct Condvar {
    id: CondId,
}

/// Why a wait with a limit ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    /// Did it end because the time was over?
    pub fn timed_out(&self) -> bool {
        self.0
    }
}

impl Condvar {
    /// A condition, called by the place of this call.
    #[track_caller]
    #[expect(clippy::new_without_default, reason = "a default would have no place to be called by")]
    pub fn new() -> Condvar {
        Condvar::with_name(Name::here())
    }

    /// A condition with a name of its own.
    #[track_caller]
    pub fn named(name: &'static str) -> Condvar {
        Condvar::with_name(Name::Given(name))
    }

    #[track_caller]
    fn with_name(name: Name) -> Condvar {
        let id = coop::with(|run| run.add_cond(name));
        Condvar { id: id.expect("conditions of a search are made inside a search only") }
    }

    /// Give up the lock, wait until notified, take the lock again.
    pub fn wait<'a, T>(&self, mut guard: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
        self.wait_until(&mut guard, None);
        Ok(guard)
    }

    /// Wait for as long as `condition` holds.
    pub fn wait_while<'a, T>(
        &self,
        mut guard: MutexGuard<'a, T>,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> LockResult<MutexGuard<'a, T>> {
        while condition(&mut guard) {
            self.wait_until(&mut guard, None);
        }
        Ok(guard)
    }

    /// The same as [`wait`](Condvar::wait), for `limit` at most.
    pub fn wait_timeout<'a, T>(
        &self,
        mut guard: MutexGuard<'a, T>,
        limit: Duration,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
        let notified = self.wait_until(&mut guard, Some(after(limit)));
        Ok((guard, WaitTimeoutResult(!notified)))
    }

    /// Tells whether it was notified.
    pub(super) fn wait_until<T>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        until: Option<shims::Time>,
    ) -> bool {
        let lock = guard.mutex.id();
        let reply = guard.without(|| coop::point(Op::Wait { cond: self.id, lock, until }));
        reply == Reply::Is(true)
    }

    /// Let one of those who wait go on.
    pub fn notify_one(&self) {
        self.notify(false);
    }

    /// Let all of those who wait go on.
    pub fn notify_all(&self) {
        self.notify(true);
    }

    fn notify(&self, all: bool) {
        let at_once = coop::with(|run| {
            let at_once = run.keeps_out_waiters(self.id);
            if at_once {
                run.notify(self.id, all);
            }
            at_once
        });
        if at_once == Some(false) {
            coop::point(Op::Notify { cond: self.id, all });
        }
    }
}
