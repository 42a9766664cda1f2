//! Where a handler's code gives control back: the scheduling points, as the code calls them.
//! Owns the link from running code to its run.

use std::cell::RefCell;
use std::panic::resume_unwind;
use std::rc::Rc;

use super::core::Core;
use super::fiber;
use super::op::{Op, Reply};

/// The state of a run, shared by its threads.
pub(super) type Shared = Rc<RefCell<Core>>;

thread_local! {
    static RUN: RefCell<Option<Shared>> = const { RefCell::new(None) };
}

/// What a thread is unwound with when its run is over.
pub(super) struct Over;

/// While it lives, code on this host thread belongs to a run.
pub(super) struct Entered(Option<Shared>);

pub(super) fn enter(run: &Shared) -> Entered {
    Entered(RUN.replace(Some(Rc::clone(run))))
}

impl Drop for Entered {
    fn drop(&mut self) {
        RUN.set(self.0.take());
    }
}

/// The run that the calling code belongs to.
pub(super) fn run() -> Shared {
    RUN.with_borrow(Clone::clone).unwrap_or_else(|| {
        panic!("locks, threads and the userfaultfd of a search are used inside a search only")
    })
}

/// Look at the run, or change it, without giving up control. `None` outside of a run: what
/// outlives it may be dropped there.
pub(crate) fn with<T>(look: impl FnOnce(&mut Core) -> T) -> Option<T> {
    let run = RUN.with_borrow(Clone::clone)?;
    let mut core = run.borrow_mut();
    Some(look(&mut core))
}

/// Do `op` when the search says so.
///
/// Other threads move meanwhile. Once the run is over this does not return but unwinds, so
/// that everything the thread holds is dropped; while the thread unwinds it returns
/// [`Reply::Over`].
pub(crate) fn point(op: Op) -> Reply {
    let run = run();
    if std::thread::panicking() {
        return unwinding(&run, op);
    }
    if run.borrow().over() {
        // Code that has caught the unwinding of its own run. If it does so for ever, it is left
        // where it is.
        while run.borrow_mut().is_stubborn() {
            fiber::yield_now();
        }
        resume_unwind(Box::new(Over));
    }
    run.borrow_mut().announce(op);
    fiber::yield_now();
    let reply = run.borrow_mut().take_reply();
    match reply {
        Some(reply) => reply,
        None => resume_unwind(Box::new(Over)),
    }
}

/// A thread that unwinds does what does not make it wait; it lets nobody move meanwhile,
/// because they would take themselves for unwinding as well.
fn unwinding(run: &Shared, op: Op) -> Reply {
    loop {
        if let Some(reply) = run.borrow_mut().do_at_once(&op) {
            return reply;
        }
        // Ends the run. The thread unwinds on when the others have ended.
        run.borrow_mut().stuck_unwinding(&op);
        fiber::yield_now();
    }
}

/// Give control back while the threads of a team run on this thread's stack.
pub(super) fn yield_to_team() {
    fiber::yield_now();
}
