//! Steps of the simulated kernel alone: no world, no handler, no oracle.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use shims::{CopyMode, Features, Len, RegisterModes, Request, Span};
use sim::kernel::{Call, Kernel, PAGE, Payload, Ret, ThreadId};
use sim::vma::{CtxId, Mmap, Prot};
use sim::world::{BASE, page_addr};
use sim::{Content, Profile};

struct Machine {
    kernel: Kernel,
    ctx: CtxId,
    guest: ThreadId,
    handler: ThreadId,
}

impl Machine {
    fn new(pages: u64) -> Machine {
        let mut kernel = Kernel::new(Profile::default());
        let mm = kernel.new_mm();
        let (guest, handler) = (kernel.new_thread(mm), kernel.new_thread(mm));
        let range = Span::new(BASE, Len::pages(pages, PAGE).expect("few pages"));
        kernel.run(guest, Call::Mmap(Mmap::fixed(BASE.raw(), range.len.bytes(), Prot::RW)));
        let ctx = kernel.userfaultfd(mm, Features::EVENT_REMOVE).expect("a modelled feature");
        kernel.run(handler, Call::Register { ctx, range, modes: RegisterModes::MISSING });
        Machine { kernel, ctx, guest, handler }
    }

    /// Move `thread` as far as it can go alone; returns the steps.
    fn drive(&mut self, thread: ThreadId) -> u64 {
        let mut steps = 0;
        while self.kernel.can_step(thread) {
            black_box(self.kernel.step(thread));
            steps += 1;
        }
        steps
    }

    /// Access, event, COPY, wake, access: one fault from beginning to end.
    fn round_trip(&mut self, page: u64) -> u64 {
        let addr = page_addr(page);
        self.kernel.begin(self.guest, Call::Load { addr });
        let mut steps = self.drive(self.guest);
        self.kernel.begin(self.handler, Call::Read { ctx: self.ctx, max: 16 });
        steps += self.drive(self.handler);
        self.kernel.take_ret(self.handler);
        self.kernel.inbox(self.handler).clear();
        let dst = Span::new(addr, PAGE.len());
        let request = Request::Copy { dst, mode: CopyMode::empty() };
        let payload = Payload::One(Content::Source { page: page as u32, version: 0 });
        self.kernel.begin(self.handler, Call::Resolve { ctx: self.ctx, request, payload });
        steps += self.drive(self.handler);
        self.kernel.take_ret(self.handler);
        steps += self.drive(self.guest);
        assert!(matches!(self.kernel.take_ret(self.guest), Some(Ret::Loaded(_))));
        steps
    }

    /// Remove one page, the handler reading the event.
    fn remove(&mut self, page: u64) -> u64 {
        let range = Span::new(page_addr(page), PAGE.len());
        self.kernel.begin(self.guest, Call::DontNeed { range });
        let mut steps = self.drive(self.guest);
        self.kernel.begin(self.handler, Call::Read { ctx: self.ctx, max: 16 });
        steps += self.drive(self.handler);
        self.kernel.take_ret(self.handler);
        self.kernel.inbox(self.handler).clear();
        steps += self.drive(self.guest);
        assert_eq!(self.kernel.take_ret(self.guest), Some(Ret::Ok(0)));
        steps
    }
}

fn kernel_steps(c: &mut Criterion) {
    let mut group = c.benchmark_group("kernel_steps");
    for pages in [8u64, 512] {
        let mut machine = Machine::new(pages);
        let mut page = 0;
        let per_turn = machine.round_trip(0) + machine.remove(0);
        group.throughput(Throughput::Elements(per_turn));
        group.bench_function(format!("fault and remove, {pages} pages"), |b| {
            b.iter(|| {
                page = (page + 1) % pages;
                machine.round_trip(page) + machine.remove(page)
            });
        });
    }
    group.finish();

    let mut group = c.benchmark_group("fault_round_trip");
    for pages in [8u64, 512] {
        let start = Machine::new(pages).kernel;
        let mut machine = Machine::new(pages);
        let mut page = 0;
        group.bench_function(format!("access, event, copy, wake, access, {pages} pages"), |b| {
            b.iter(|| {
                if page == pages {
                    page = 0;
                    machine.kernel = start.clone();
                }
                let steps = machine.round_trip(page);
                page += 1;
                steps
            });
        });
    }
    group.finish();

    let mut machine = Machine::new(512);
    for page in 0..512 {
        machine.round_trip(page);
    }
    c.bench_function("clone of a kernel with 512 pages present", |b| {
        b.iter(|| black_box(machine.kernel.clone()));
    });
}

criterion_group!(benches, kernel_steps);
criterion_main!(benches);
