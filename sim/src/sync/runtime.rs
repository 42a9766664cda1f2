//! The simulator as a [`Runtime`]: a driver that is generic over it runs here unmodified.

use core::time::Duration;

use shims::{Errno, Runtime};

use super::{Condvar, Mutex, MutexGuard, after};
use crate::coop;

/// Threads and locks of a search.
#[derive(Clone, Copy, Debug)]
pub struct Simulated;

impl Runtime for Simulated {
    type Mutex<T: Send> = Mutex<T>;
    type Guard<'a, T: Send + 'a> = MutexGuard<'a, T>;
    type Condvar = Condvar;

    fn mutex<T: Send>(name: &'static str, value: T) -> Mutex<T> {
        Mutex::named(name, value)
    }

    fn lock<T: Send>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        let Ok(guard) = mutex.lock() else { unreachable!("a lock of a search is not poisoned") };
        guard
    }

    fn condvar(name: &'static str) -> Condvar {
        Condvar::named(name)
    }

    fn wait<T: Send>(condvar: &Condvar, guard: &mut MutexGuard<'_, T>) {
        condvar.wait_until(guard, None);
    }

    fn wait_for<T: Send>(
        condvar: &Condvar,
        guard: &mut MutexGuard<'_, T>,
        limit: Duration,
    ) -> bool {
        condvar.wait_until(guard, Some(after(limit)))
    }

    fn notify_one(condvar: &Condvar) {
        condvar.notify_one();
    }

    fn notify_all(condvar: &Condvar) {
        condvar.notify_all();
    }

    fn team(
        names: impl IntoIterator<Item = String>,
        work: impl Fn() + Sync,
        main: impl FnOnce(Result<(), Errno>) + Send,
    ) {
        coop::team(names, work, main);
    }
}
