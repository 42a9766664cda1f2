//! The drivers: what reads, fetches and performs ioctls on behalf of a [`Machine`].
//!
//! [`Driver::run_single`] does all of it on the calling thread; [`Driver::run_threads`]
//! reads on the calling thread and works on others. Both run the same machine and the
//! same code for an action. Neither opens or closes a descriptor, and neither looks at a
//! clock but the [`Waiter`]'s.
//!
//! # Locks
//!
//! There is one: the desk, which holds the machine. It is never held across a read, a
//! fetch, an ioctl or a callback.

mod control;
mod desk;
mod exec;
mod family;
mod single;
mod system;
mod threads;

use core::fmt;
use core::time::Duration;
use std::sync::Arc;

use shims::{Addr, Errno, PageNo, PageSize, Runtime, Span, Time, Uffd, Waiter, ZeropageMode};

use crate::{Counters, Machine, Newborn, PageSource, Policy, RegionMap, Status};
pub use control::{Control, SnapshotError};
use desk::{Desk, Inner};
pub use family::{Family, Relatives};
pub use system::System;

/// A fault that has been served, for whoever keeps statistics.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Served {
    /// The page.
    pub page: PageNo,
    /// Was it a write?
    pub write: bool,
    /// From the moment its message had been read to the end of the ioctl that woke its
    /// thread. How long the message lay in the kernel is not part of it: nothing tells.
    pub took: Duration,
}

/// Called once for each fault that got an answer, from any of the driver's threads.
pub type OnServed = dyn Fn(Served) + Send + Sync;

/// Called for each child whose message was read, with the descriptor that brought it. Tells
/// whether the child will be served.
pub type OnFork<U> = dyn Fn(&U, Newborn) -> bool + Send + Sync;

/// How a driver ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// Why.
    pub status: Status,
    /// What it had done by then.
    pub counters: Counters,
}

/// Why a driver cannot be built.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum SetupError {
    /// The source has pages of another size than the regions.
    PageSize {
        /// The regions'.
        regions: PageSize,
        /// The source's.
        source: PageSize,
    },
}

/// A machine with everything it needs to serve.
///
/// `Driver` borrows or owns its parts as you like: all of [`Uffd`], [`PageSource`] are
/// implemented for references too. `R` is where its locks and threads come from: the
/// operating system, or a simulator that searches their interleavings.
pub struct Driver<U, W, S, R: Runtime = System> {
    uffd: U,
    source: S,
    control: Control<W, R>,
    on_served: Option<Box<OnServed>>,
    on_fork: Option<Box<OnFork<U>>>,
    /// How often to see whether the process is still there.
    check_life: Option<Duration>,
    /// A page of zeros.
    zeros: Box<[u8]>,
}

impl<U: Uffd, W: Waiter, S: PageSource> Driver<U, W, S> {
    /// A driver that serves the faults of `regions`, which are registered with `uffd`,
    /// with pages of `source`.
    pub fn new(
        policy: Policy,
        regions: RegionMap,
        uffd: U,
        waiter: W,
        source: S,
    ) -> Result<Driver<U, W, S>, SetupError> {
        Driver::on_runtime(policy, regions, uffd, waiter, source)
    }
}

impl<U: Uffd, W: Waiter, S: PageSource, R: Runtime> Driver<U, W, S, R> {
    /// A driver like that of [`new`](Driver::new), with locks and threads of `R`.
    pub fn on_runtime(
        policy: Policy,
        regions: RegionMap,
        uffd: U,
        waiter: W,
        source: S,
    ) -> Result<Driver<U, W, S, R>, SetupError> {
        Driver::of_machine(Machine::new(policy, regions), uffd, waiter, source)
    }

    /// A driver that serves a child, `uffd` being the descriptor of which its parent's was
    /// told.
    pub fn of_child(
        child: Newborn,
        uffd: U,
        waiter: W,
        source: S,
    ) -> Result<Driver<U, W, S, R>, SetupError> {
        Driver::of_machine(child.machine, uffd, waiter, source)
    }

    fn of_machine(
        machine: Machine,
        uffd: U,
        waiter: W,
        source: S,
    ) -> Result<Driver<U, W, S, R>, SetupError> {
        let page = machine.regions().page_size();
        if source.page_size() != page {
            return Err(SetupError::PageSize { regions: page, source: source.page_size() });
        }
        let desk = Arc::new(Desk::new(machine));
        let zeros = vec![0; page.bytes() as usize].into_boxed_slice();
        let control = Control::new(desk, Arc::new(waiter));
        let (on_served, on_fork, check_life) = (None, None, None);
        Ok(Driver { uffd, source, control, on_served, on_fork, check_life, zeros })
    }

    /// Call `hook` for each child of the process that is served. It must see to it that the
    /// child is served, by a driver that is made [of it](Driver::of_child): its threads wait
    /// for their pages. A driver without a hook, or whose hook says no, fails when the
    /// process forks. See [`Family`] for one that serves all descendants.
    #[must_use]
    pub fn on_fork(mut self, hook: impl Fn(&U, Newborn) -> bool + Send + Sync + 'static) -> Self {
        self.on_fork = Some(Box::new(hook));
        self
    }

    /// Ask the kernel that often whether the process is still there, while no message comes.
    /// For processes without a connection that ends with them: a userfaultfd never tells
    /// (rule a23).
    #[must_use]
    pub fn check_life(mut self, every: Duration) -> Self {
        self.check_life = Some(every);
        self
    }

    /// Call `hook` for each fault that has been served.
    #[must_use]
    pub fn on_served(mut self, hook: impl Fn(Served) + Send + Sync + 'static) -> Self {
        self.on_served = Some(Box::new(hook));
        self
    }

    /// A handle that other threads steer this driver by.
    pub fn control(&self) -> Control<W, R> {
        self.control.clone()
    }

    /// The waiter.
    pub fn waiter(&self) -> &W {
        self.control.waiter()
    }

    /// The descriptor.
    pub fn uffd(&self) -> &U {
        &self.uffd
    }

    fn now(&self) -> Time {
        self.waiter().now()
    }

    /// Hand children over whose messages were among those just read.
    fn bring_up(&self, mut inner: R::Guard<'_, Inner>) {
        let births = inner.machine.take_births();
        if births.is_empty() {
            return;
        }
        drop(inner);
        for newborn in births {
            let fd = newborn.fd;
            let adopted = self.on_fork.as_ref().is_some_and(|hook| hook(&self.uffd, newborn));
            if !adopted {
                let mut inner = self.control.desk.lock();
                inner.machine.child_refused(fd);
                self.control.desk.changed(&inner);
            }
        }
    }

    /// Is the process gone? An ioctl on memory that nobody ever maps tells (rule e9).
    fn is_gone(&self) -> bool {
        let page = PageSize::KIB4;
        let nowhere = Span::new(Addr::new(page.bytes()), page.len());
        self.uffd.zeropage(nowhere, ZeropageMode::DONTWAKE).errno == Some(Errno::ESRCH)
    }

    fn tell(&self, served: &mut Vec<Served>) {
        match &self.on_served {
            Some(hook) => served.drain(..).for_each(hook),
            None => served.clear(),
        }
    }
}

impl<U: fmt::Debug, W, S: fmt::Debug, R: Runtime> fmt::Debug for Driver<U, W, S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver")
            .field("uffd", &self.uffd)
            .field("source", &self.source)
            .field("control", &self.control)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SetupError::PageSize { regions, source } => write!(
                f,
                "the source gives pages of {source}, but the regions are mapped in pages of {regions}"
            ),
        }
    }
}

impl core::error::Error for SetupError {}
