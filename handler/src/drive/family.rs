//! A process and the processes it forks, each served by a driver of its own. Owns the threads
//! they run on and the list of who steers them; a driver knows nothing of its relatives.

use core::time::Duration;
use std::num::NonZeroUsize;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use shims::{Uffd, Waiter};

use super::{Control, Driver, Report};
use crate::{Newborn, PageSource};

/// How often a child that sends no messages is looked at, to see whether it is still there.
/// Nothing tells that it is not (rule a23).
const PULSE: Duration = Duration::from_millis(500);

/// A driver and those of the descendants of its process.
pub struct Family<U, W, S> {
    root: Driver<U, W, S>,
    children: Receiver<Driver<U, W, S>>,
    relatives: Relatives<W>,
    workers: Option<NonZeroUsize>,
}

/// Steers all drivers of a family.
pub struct Relatives<W>(Arc<Mutex<Members<W>>>);

struct Members<W> {
    /// In the order of their births, the root first.
    controls: Vec<Control<W>>,
    stopped: bool,
}

impl<U, W, S> Family<U, W, S>
where
    U: Uffd + Send + Sync + 'static,
    W: Waiter + Send + Sync + 'static,
    S: PageSource + Clone + Send + Sync + 'static,
{
    /// The family of which `root` serves the eldest. `adopt` is called when a fork's message
    /// has been read, with the descriptor that brought it and the number of the child's: it
    /// takes the child's descriptor over. If it does not, the family member that forked fails:
    /// nobody would answer its child.
    ///
    /// Each member is served by one thread, or by a reader and `workers` others.
    pub fn new(
        root: Driver<U, W, S>,
        workers: Option<NonZeroUsize>,
        adopt: impl Fn(&U, i32) -> Option<(U, W)> + Send + Sync + 'static,
    ) -> Family<U, W, S> {
        let (tell, children) = channel();
        let members = Members { controls: vec![root.control()], stopped: false };
        let relatives = Relatives(Arc::new(Mutex::new(members)));
        let nursery = Arc::new(Nursery { adopt, relatives: relatives.clone(), tell });
        Family { root: nursery.watch(root), children, relatives, workers }
    }

    /// Who steers them.
    pub fn relatives(&self) -> Relatives<W> {
        self.relatives.clone()
    }

    /// Serve until every member has ended. Their reports, in the order of their births.
    pub fn run(self) -> Vec<Report> {
        let Family { root, children, workers, .. } = self;
        let run = move |driver: Driver<U, W, S>| match workers {
            Some(workers) => driver.run_threads(workers),
            None => driver.run_single(),
        };
        std::thread::scope(|scope| {
            let mut running = vec![scope.spawn(move || run(root))];
            // Ends when nobody is left who could bring another child.
            for child in children {
                running.push(scope.spawn(move || run(child)));
            }
            running
                .into_iter()
                .map(|member| match member.join() {
                    Ok(report) => report,
                    Err(panic) => std::panic::resume_unwind(panic),
                })
                .collect()
        })
    }
}

/// What every member knows of bringing up children.
struct Nursery<U, W, S, A> {
    adopt: A,
    relatives: Relatives<W>,
    tell: Sender<Driver<U, W, S>>,
}

impl<U, W, S, A> Nursery<U, W, S, A>
where
    U: Uffd + Send + Sync + 'static,
    W: Waiter + Send + Sync + 'static,
    S: PageSource + Clone + Send + Sync + 'static,
    A: Fn(&U, i32) -> Option<(U, W)> + Send + Sync + 'static,
{
    fn watch(self: Arc<Self>, driver: Driver<U, W, S>) -> Driver<U, W, S> {
        let source = driver.source.clone();
        driver.on_fork(move |uffd, newborn: Newborn| {
            let Some((uffd, waiter)) = (self.adopt)(uffd, newborn.fd) else { return false };
            let Ok(child) = Driver::of_child(newborn, uffd, waiter, source.clone()) else {
                return false;
            };
            self.relatives.enter(child.control());
            // Nobody hears of it once the family is over, and then nobody is left to fork.
            let child = Arc::clone(&self).watch(child.check_life(PULSE));
            self.tell.send(child).is_ok()
        })
    }
}

impl<W: Waiter> Relatives<W> {
    fn members(&self) -> MutexGuard<'_, Members<W>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, control: Control<W>) {
        let mut members = self.members();
        if members.stopped {
            control.stop();
        }
        members.controls.push(control);
    }

    /// The controls of all who were ever born, the root's first.
    pub fn controls(&self) -> Vec<Control<W>> {
        self.members().controls.clone()
    }

    /// Stop all of them, and whoever is born later.
    pub fn stop(&self) {
        let mut members = self.members();
        members.stopped = true;
        members.controls.iter().for_each(Control::stop);
    }
}

impl<W> Clone for Relatives<W> {
    fn clone(&self) -> Relatives<W> {
        Relatives(Arc::clone(&self.0))
    }
}

impl<W> core::fmt::Debug for Relatives<W> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Relatives").finish_non_exhaustive()
    }
}

impl<U: core::fmt::Debug, W, S: core::fmt::Debug> core::fmt::Debug for Family<U, W, S> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Family").field("root", &self.root).finish_non_exhaustive()
    }
}
