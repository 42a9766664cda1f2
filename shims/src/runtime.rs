//! What blocking code asks of the system it runs on: locks, conditions, threads. Owns the
//! trait alone; the operating system's implementation lives with the drivers, the
//! simulator's with the simulator.

use core::ops::DerefMut;
use core::time::Duration;

use crate::Errno;

/// Locks, conditions and threads for code that runs on real threads and, unmodified, on the
/// simulator's.
///
/// Names show in the reports of the simulator: which thread waits for which lock, and who
/// holds it. The operating system has no use for them.
pub trait Runtime: Sized + 'static {
    /// Mutual exclusion for a `T`. Not reentrant, and a panic does not poison it.
    type Mutex<T: Send>: Send + Sync;

    /// Access to what a mutex protects, for as long as it lives.
    type Guard<'a, T: Send + 'a>: DerefMut<Target = T>;

    /// Where threads wait for something to become true.
    type Condvar: Send + Sync;

    /// A mutex around `value`.
    fn mutex<T: Send>(name: &'static str, value: T) -> Self::Mutex<T>;

    /// Wait for the mutex and take it.
    fn lock<T: Send>(mutex: &Self::Mutex<T>) -> Self::Guard<'_, T>;

    /// A condition nobody waits for.
    fn condvar(name: &'static str) -> Self::Condvar;

    /// Give up the lock, wait until notified, take the lock again.
    fn wait<T: Send>(condvar: &Self::Condvar, guard: &mut Self::Guard<'_, T>);

    /// The same, for `limit` at most. Tells whether it was notified.
    fn wait_for<T: Send>(
        condvar: &Self::Condvar,
        guard: &mut Self::Guard<'_, T>,
        limit: Duration,
    ) -> bool;

    /// Let one of those who wait go on.
    fn notify_one(condvar: &Self::Condvar);

    /// Let all of those who wait go on.
    fn notify_all(condvar: &Self::Condvar);

    /// Run `work` on a new thread for each of `names`, and `main` on this one. Returns when
    /// all have ended. `main` is told if a thread could not be started; no more are started
    /// then.
    ///
    /// # Panics
    ///
    /// If one of the threads panicked, when all have ended.
    fn team(
        names: impl IntoIterator<Item = String>,
        work: impl Fn() + Sync,
        main: impl FnOnce(Result<(), Errno>) + Send,
    );
}
