//! The problem in shuttle: a thread for each task and one for the handler, the kernel behind a
//! lock, a condition to sleep on. The lock is taken for each step, and the condition notified
//! only by steps after which somebody else may be able to move.

use shuttle::sync::{Arc, Condvar, Mutex};
use shuttle::thread;
use sim::kernel::{Call, Did, Kernel, Ret, ThreadId};
use sim::vma::CtxId;

use crate::problem::{self, Notes, TASKS};

struct Machine {
    kernel: Mutex<Kernel>,
    moved: Condvar,
}

impl Machine {
    /// Step through `call` to its end.
    fn run(&self, thread: ThreadId, call: Call) -> Ret {
        self.kernel.lock().unwrap().begin(thread, call);
        loop {
            let mut kernel = self.kernel.lock().unwrap();
            while !kernel.can_step(thread) {
                kernel = self.moved.wait(kernel).unwrap();
            }
            let did = kernel.step(thread);
            if let Did::QueueFault { .. }
            | Did::QueueEvent { .. }
            | Did::Take(_)
            | Did::LowerChanging { .. }
            | Did::Answer { .. } = did
            {
                self.moved.notify_all();
            }
            if let Some(ret) = kernel.take_ret(thread) {
                return ret;
            }
        }
    }

    fn handle(&self, thread: ThreadId, ctx: CtxId) {
        let mut notes = Notes::default();
        loop {
            let mut kernel = self.kernel.lock().unwrap();
            while !notes.may_go_on(&kernel, ctx) && !kernel.ctx(ctx).is_closed() {
                kernel = self.moved.wait(kernel).unwrap();
            }
            if kernel.ctx(ctx).is_closed() {
                return;
            }
            let readable = kernel.ctx(ctx).readable();
            drop(kernel);
            if readable {
                self.run(thread, Call::Read { ctx, max: 16 });
                let events = std::mem::take(self.kernel.lock().unwrap().inbox(thread));
                notes.read(&events);
            }
            if let Some(call) = notes.install(ctx) {
                notes.answered(self.run(thread, call));
            }
        }
    }
}

/// One execution: to be run by a `shuttle::Runner`.
pub fn problem() {
    let (kernel, ctx, threads) = problem::kernel();
    let machine = Arc::new(Machine { kernel: Mutex::new(kernel), moved: Condvar::new() });
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let (machine, thread) = (Arc::clone(&machine), threads[task]);
            thread::spawn(move || machine.run(thread, problem::call(task)))
        })
        .collect();
    let own = Arc::clone(&machine);
    let handler = thread::spawn(move || own.handle(threads[TASKS], ctx));
    for task in tasks {
        task.join().unwrap();
    }
    // The tasks are done: the handler sees the end of the file.
    let mut kernel = machine.kernel.lock().unwrap();
    let main = ThreadId(0);
    kernel.run(main, Call::Close { ctx });
    machine.moved.notify_all();
    drop(kernel);
    handler.join().unwrap();
}
