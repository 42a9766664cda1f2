//! The operating system as a [`Runtime`]. Owns the choice of locks and threads; nothing of
//! it reaches the machine.

use core::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};
use shims::{Errno, Runtime};

/// Threads of the operating system, locks of `parking_lot`.
#[derive(Clone, Copy, Debug)]
pub struct System;

impl Runtime for System {
    type Mutex<T: Send> = Mutex<T>;
    type Guard<'a, T: Send + 'a> = MutexGuard<'a, T>;
    type Condvar = Condvar;

    fn mutex<T: Send>(_: &'static str, value: T) -> Mutex<T> {
        Mutex::new(value)
    }

    fn lock<T: Send>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        mutex.lock()
    }

    fn condvar(_: &'static str) -> Condvar {
        Condvar::new()
    }

    fn wait<T: Send>(condvar: &Condvar, guard: &mut MutexGuard<'_, T>) {
        condvar.wait(guard);
    }

    fn wait_for<T: Send>(
        condvar: &Condvar,
        guard: &mut MutexGuard<'_, T>,
        limit: Duration,
    ) -> bool {
        !condvar.wait_for(guard, limit).timed_out()
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
        std::thread::scope(|scope| {
            for name in names {
                let thread = std::thread::Builder::new().name(name);
                if let Err(error) = thread.spawn_scoped(scope, &work) {
                    let errno = error.raw_os_error().and_then(Errno::from_raw);
                    return main(Err(errno.unwrap_or(Errno::EAGAIN)));
                }
            }
            main(Ok(()));
        });
    }
}
