//! What both versions share: the kernel, who calls what, and what the handler remembers. Every
//! step of every call is a scheduling point in both.

use shims::{CopyMode, Event, Features, Len, RegisterModes, Request, Span, ZeropageMode};
use sim::kernel::{Call, Kernel, PAGE, Payload, Ret, ThreadId};
use sim::vma::{CtxId, Mmap, Prot};
use sim::world::{BASE, page_addr, page_index};
use sim::{Content, Profile};

/// Pages of memory.
pub const PAGES: u64 = 2;

/// Tasks of the monitored process: two readers and one that gives page 0 back.
pub const TASKS: usize = 3;

/// The memory from page `start` to page `end`.
pub fn span(start: u64, end: u64) -> Span {
    Span::between(page_addr(start), page_addr(end)).expect("in order")
}

/// The call of task `task`.
pub fn call(task: usize) -> Call {
    match task {
        0 | 1 => Call::Load { addr: page_addr(task as u64) },
        _ => Call::DontNeed { range: span(0, 1) },
    }
}

/// A kernel with the memory registered, a thread for each task, and one for the handler.
pub fn kernel() -> (Kernel, CtxId, Vec<ThreadId>) {
    let mut kernel = Kernel::new(Profile::default());
    let mm = kernel.new_mm();
    let main = kernel.new_thread(mm);
    let len = Len::pages(PAGES, PAGE).expect("few pages").bytes();
    let mapped = kernel.run(main, Call::Mmap(Mmap::fixed(BASE.raw(), len, Prot::RW)));
    assert_eq!(mapped, Ret::Ok(BASE.raw()));
    let ctx = kernel.userfaultfd(mm, Features::EVENT_REMOVE).expect("a feature it has");
    let register = Call::Register { ctx, range: span(0, PAGES), modes: RegisterModes::MISSING };
    assert!(matches!(kernel.run(main, register), Ret::Ok(_)));
    let threads = (0..=TASKS).map(|_| kernel.new_thread(mm)).collect();
    (kernel, ctx, threads)
}

/// What the handler keeps: pages that were given back, and faults to serve.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Notes {
    removed: u64,
    faults: Vec<u64>,
}

impl Notes {
    /// Messages were read: removals count before the faults of the same batch.
    pub fn read(&mut self, events: &[Event]) {
        for event in events {
            if let Event::Remove(span) = event {
                self.removed |= 1 << page_index(span.start).expect("of the memory");
            }
        }
        for event in events {
            if let Event::Fault(fault) = event {
                self.faults.push(page_index(fault.addr).expect("of the memory"));
            }
        }
    }

    /// Is there something to serve?
    pub fn waiting(&self) -> bool {
        !self.faults.is_empty()
    }

    /// The install of the fault that is served next.
    pub fn install(&self, ctx: CtxId) -> Option<Call> {
        let page = *self.faults.first()?;
        let dst = span(page, page + 1);
        let (request, payload) = if self.removed >> page & 1 == 1 {
            let request = Request::Zeropage { range: dst, mode: ZeropageMode::empty() };
            (request, Payload::None)
        } else {
            let content = Content::Source { page: page as u32, version: 0 };
            (Request::Copy { dst, mode: CopyMode::empty() }, Payload::One(content))
        };
        Some(Call::Resolve { ctx, request, payload })
    }

    /// It was answered. A page that is there already is nobody's fault any more: in this
    /// problem every page has one reader. Otherwise it is tried again.
    pub fn answered(&mut self, ret: Ret) {
        let Ret::Outcome(outcome) = ret else { unreachable!("an install answered {ret:?}") };
        if outcome.errno != Some(shims::Errno::EAGAIN) {
            self.faults.remove(0);
        }
    }

    /// May a reading handler go on? There is something to read, or something to install and the
    /// address space does not change. A real handler cannot ask for the second, and sleeps a
    /// while instead; both versions ask, so that neither needs a clock.
    pub fn may_go_on(&self, kernel: &Kernel, ctx: CtxId) -> bool {
        let ctx = kernel.ctx(ctx);
        ctx.readable() || (self.waiting() && ctx.changing() == 0)
    }
}
