//! The simulated kernel: a value with one method per thing a thread can do.
//!
//! Owns the address spaces, the userfaultfd contexts and what each thread is doing in the
//! kernel. Does not own programs, schedules or oracles (see [`crate::world`]): somebody
//! else decides which thread moves next.
//!
//! A thread enters a call with [`Kernel::begin`] and moves through it with
//! [`Kernel::step`], one atomic step at a time. The steps are what the real kernel does
//! without another thread being able to look in between; F1 to F5 and E1 to E5 of the
//! rules name them. [`Kernel::can_step`] is false while the thread sleeps or waits for a
//! lock.
//!
//! # Divergence from Linux
//!
//! - A store writes the stamp of a whole page: two threads that write different words of
//!   one page are modelled as writing the page. A program that looks at words sees more.
//! - A zap and the flush of translations behind it are one step. On Linux another
//!   processor may use the old page until the flush; such an access is, to every observer,
//!   an access before the zap.
//! - Memory never runs out.

mod ahead;
mod batch;
mod call;
mod collapse;
mod copy_from;
mod ctx;
mod did;
mod events;
mod fault;
mod fd;
mod file_call;
mod footprint;
mod fork;
mod guard;
mod handshake;
mod locked;
mod madvise;
mod move_page;
mod object;
mod page_table;
mod pagemap;
mod process;
mod protect;
mod ready;
mod remap;
mod remove;
mod replace;
mod resolve;
mod run;
mod scan;
mod signal;
mod sim_uffd;
mod sleep;
mod struct_at;
mod syscalls;
mod thp;
mod transfer;
mod waiting;

use std::sync::Arc;

use shims::{Addr, Errno, Event, Features, PageSize};

pub(crate) use ahead::{Asks, At, Resolving};
pub use call::{Call, MmId, Payload, Ret, Signal, StructAt, ThreadId};
pub use ctx::Ctx;
pub use did::{Did, HugeDid, ProcessDid};
pub use fd::Fd;
pub use file_call::{ApiStruct, FdView, FileCall, Reading};
pub use footprint::Footprint;
pub(crate) use footprint::page_bits;
pub use handshake::flags;
pub use madvise::Madvise;
pub use object::{HugePages, Object};
pub use page_table::{Marker, PageTable, Pte, PteBits};
pub use pagemap::PagemapBits;
pub use process::{ForkFailure, Privileges, ProcessCall};
pub use scan::{PageIs, PagemapScan, Region, ScanFlags, Scanned};
pub use signal::Sig;
pub use sim_uffd::SimUffd;
pub(crate) use sim_uffd::payload_of;
pub use sleep::Sleep;
pub use thp::Thp;
pub use transfer::Via;
pub use waiting::poll;

use crate::Profile;
use crate::copy::copy_by_field;
use crate::vma::{AddressSpace, CtxId, Limits};
use batch::Batch;
use object::{Objects, RemoveFile};
use page_table::Vpn;
use process::Processes;
use replace::Gap;
use run::{Access, FaultPc, Next, RemoveCall, RemovePc, ResolvePc, Run};
use transfer::Transfer;

/// Set one field of a call in progress.
macro_rules! set {
    ($run:ident, $call:ident, $field:ident, $value:ident) => {
        if let Run::$call { $field, .. } = $run {
            *$field = $value;
        }
    };
}

/// The page size of the simulated machine's page tables.
pub const PAGE: PageSize = PageSize::KIB4;

/// An address space with its page table.
#[derive(PartialEq, Eq, Hash, Debug)]
pub struct Mm {
    pub(crate) space: AddressSpace,
    pub(crate) table: PageTable,
    /// The first pages of its huge pages, ascending.
    pub(crate) huge: Vec<Vpn>,
    /// Holders of the mmap lock for reading that keep it across steps. Calls that change
    /// the layout wait for zero.
    pub(crate) readers: u32,
    /// An `UNREGISTER` holds the mmap lock for writing across its steps.
    pub(crate) writer: bool,
    /// Nobody lives in it any more (rule a23).
    pub(crate) dead: bool,
}

copy_by_field! {
    Mm copies { space, table, huge, readers, writer, dead }
}

impl Mm {
    fn empty(profile: &Profile) -> Mm {
        let space = AddressSpace::new(profile.vma.clone()).with_pages_apart();
        let table = PageTable::default();
        Mm { space, table, huge: Vec::new(), readers: 0, writer: false, dead: false }
    }
}

#[derive(PartialEq, Eq, Hash, Debug)]
struct Thread {
    mm: MmId,
    run: Run,
    /// Messages of the last `read`.
    inbox: Vec<Event>,
}

copy_by_field! {
    Thread copies { mm, run, inbox }
}

/// What a thread has besides the call it is in.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Aside {
    /// What its `PAGEMAP_SCAN` has written, until somebody takes it.
    Scanned(Scanned),
    /// The call is one of several that a `process_madvise` makes.
    Batch(Batch),
    /// It replaces a page.
    Gap(Gap),
    /// What its call faults in when it is over but for that.
    FaultIn(Transfer),
}

/// A whole simulated kernel. Cloning forks the world.
#[derive(PartialEq, Eq, Hash, Debug)]
pub struct Kernel {
    profile: Profile,
    mms: Vec<Mm>,
    ctxs: Vec<Ctx>,
    threads: Vec<Thread>,
    thp: Thp,
    /// What few threads have: kept apart, so that the many stay small.
    asides: Vec<(ThreadId, Aside)>,
    /// The memory files, if any was ever made.
    objects: Option<Arc<Objects>>,
    /// Boxed, and absent where there are none: most worlds need a process and no more.
    processes: Option<Box<Processes>>,
}

copy_by_field! {
    Kernel copies { profile, mms, ctxs, threads, thp, asides, objects, processes }
}

impl Kernel {
    /// A kernel with nothing running.
    pub fn new(profile: Profile) -> Kernel {
        Kernel {
            profile,
            mms: Vec::new(),
            ctxs: Vec::new(),
            threads: Vec::new(),
            thp: Thp::default(),
            asides: Vec::new(),
            objects: None,
            processes: None,
        }
    }

    /// Which kernel this is.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// A new, empty address space.
    pub fn new_mm(&mut self) -> MmId {
        self.mms.push(Mm::empty(&self.profile));
        MmId(u16::try_from(self.mms.len() - 1).expect("fewer than 65,536 address spaces"))
    }

    /// A new thread of `mm`, in user mode.
    pub fn new_thread(&mut self, mm: MmId) -> ThreadId {
        self.threads.push(Thread { mm, run: Run::Idle, inbox: Vec::new() });
        ThreadId(u16::try_from(self.threads.len() - 1).expect("fewer than 65,536 threads"))
    }

    /// `userfaultfd(2)` by a thread of `mm`, and `UFFDIO_API` with `features`.
    ///
    /// Errors: `EINVAL` for a bit the profile does not have (rule a6).
    pub fn userfaultfd(&mut self, mm: MmId, mut features: Features) -> Result<CtxId, Errno> {
        if !self.profile.features.contains(features) {
            return Err(Errno::EINVAL);
        }
        if features.contains(Features::WP_ASYNC) {
            features |= Features::WP_UNPOPULATED;
        }
        self.ctxs.push(Ctx::new(mm, features));
        Ok(CtxId(u32::try_from(self.ctxs.len() - 1).expect("fewer than 2^32 contexts")))
    }

    /// The context behind a userfaultfd.
    #[inline]
    pub fn ctx(&self, ctx: CtxId) -> &Ctx {
        &self.ctxs[ctx.0 as usize]
    }

    /// The mappings of an address space.
    pub fn space(&self, mm: MmId) -> &AddressSpace {
        &self.mms[usize::from(mm.0)].space
    }

    /// The limits of an address space, to change them as `setrlimit` does.
    pub fn limits_mut(&mut self, mm: MmId) -> &mut Limits {
        self.mm(mm).space.limits_mut()
    }

    /// The page table of an address space.
    pub fn table(&self, mm: MmId) -> &PageTable {
        &self.mms[usize::from(mm.0)].table
    }

    /// The value of the call that `thread` has finished, if it has; the thread is then
    /// idle.
    #[inline]
    pub fn take_ret(&mut self, thread: ThreadId) -> Option<Ret> {
        let run = &mut self.threads[usize::from(thread.0)].run;
        match *run {
            Run::Done(ret) => {
                *run = Run::Idle;
                Some(ret)
            }
            _ => None,
        }
    }

    /// The messages `thread` has read and not yet taken from here.
    pub fn inbox(&mut self, thread: ThreadId) -> &mut Vec<Event> {
        &mut self.threads[usize::from(thread.0)].inbox
    }

    /// The userfaultfd call that `thread` is in, and the address it is about.
    #[inline]
    pub(crate) fn call_of(&self, thread: ThreadId) -> Option<(&'static str, Option<Addr>)> {
        match &self.threads[thread.0 as usize].run {
            Run::Resolve { request, .. } => Some((request.name(), Some(request.range().start))),
            Run::Read { .. } => Some(("read", None)),
            _ => None,
        }
    }

    /// Let `thread` enter `call`. Nothing has happened yet when this returns: the first
    /// [`step`](Kernel::step) does the first thing.
    ///
    /// # Panics
    ///
    /// If the thread is in a call already: a thread does one thing at a time.
    pub fn begin(&mut self, thread: ThreadId, call: Call) {
        assert!(self.idle(thread), "thread {} is in a call already", thread.0);
        let run = match call {
            Call::Load { addr } => {
                Run::Access { access: Access { addr, store: None }, at: FaultPc::Classify }
            }
            Call::Store { addr, content } => {
                Run::Access { access: Access { addr, store: Some(content) }, at: FaultPc::Classify }
            }
            Call::Populate { range, write } => match syscalls::madvise_range(range) {
                Ok(Some((next, end))) => Run::Populate { next, end, write, at: FaultPc::Classify },
                Ok(None) => Run::Done(Ret::Ok(0)),
                Err(errno) => Run::Done(Ret::Err(errno)),
            },
            Call::DontNeed { range } => match syscalls::madvise_range(range) {
                Ok(Some((next, end))) => {
                    let (hole, advice) = (false, Madvise::DontNeed);
                    Run::Remove(RemoveCall { next, end, hole, advice, at: RemovePc::Part })
                }
                Ok(None) => Run::Done(Ret::Ok(0)),
                Err(errno) => Run::Done(Ret::Err(errno)),
            },
            Call::RemoveFile { range } => match syscalls::madvise_range(range) {
                Ok(Some((next, end))) => Run::RemoveFile(Box::new(RemoveFile::new(next, end))),
                Ok(None) => Run::Done(Ret::Ok(0)),
                Err(errno) => Run::Done(Ret::Err(errno)),
            },
            Call::Resolve { ctx, request, payload } => struct_at::begin(ctx, request, payload),
            Call::Read { ctx, max } => {
                assert!(max > 0, "a buffer of no messages is EINVAL (rule a10), not a call");
                Run::Read { ctx, max, taken: 0 }
            }
            Call::Madvise { range, advice } => advice.begin(range, self.profile.guard.exist),
            Call::ProcessMadvise { ranges, advice } => self.begin_batch(thread, ranges, advice),
            Call::Transfer { via, range, store } => Transfer::begin(via, range, store),
            Call::PagemapScan(ask) => Kernel::begin_scan(*ask),
            call => Run::Once(Box::new(call)),
        };
        self.threads[usize::from(thread.0)].run = run;
    }

    /// Move `thread` by one atomic step.
    ///
    /// # Panics
    ///
    /// If it cannot move; see [`can_step`](Kernel::can_step).
    pub fn step(&mut self, thread: ThreadId) -> Did {
        let index = usize::from(thread.0);
        let slot = &mut self.threads[index];
        let mm = slot.mm;
        // Each arm copies what the step needs and puts back the one field that changes.
        let (done, did) = match slot.run {
            Run::Access { access, at } => {
                let (next, did) = self.step_access(thread, mm, access, at);
                (self.go_on(index, next, |run, pc| set!(run, Access, at, pc)), did)
            }
            Run::Populate { next: page, end, write, at } => {
                let (next, did) = self.step_populate(thread, mm, page, end, write, at);
                let put = |run: &mut Run, (page, pc)| {
                    if let Run::Populate { next, at, .. } = run {
                        (*next, *at) = (page, pc);
                    }
                };
                (self.go_on(index, next, put), did)
            }
            Run::Remove(remove) => {
                let (next, did) = self.step_remove(thread, mm, remove);
                (self.go_on(index, next, |run, call| *run = Run::Remove(call)), did)
            }
            Run::Cut(ref cut) => {
                let cut = **cut;
                let (next, did) = self.step_cut(cut);
                let put = |run: &mut Run, next| {
                    if let Run::Cut(cut) = run {
                        **cut = next;
                    }
                };
                (self.go_on(index, next, put), did)
            }
            Run::RemoveFile(ref call) => {
                let call = **call;
                let (next, did) = self.step_remove_file(thread, mm, call);
                let put = |run: &mut Run, next| {
                    if let Run::RemoveFile(call) = run {
                        **call = next;
                    }
                };
                (self.go_on(index, next, put), did)
            }
            Run::Events { ref list, next: place, at, ret } => {
                let (entry, last) = (list[place], place + 1 == list.len());
                let (next, did) = self.step_events(thread, entry, place, last, at, ret);
                let put = |run: &mut Run, (place, pc)| {
                    if let Run::Events { next, at, .. } = run {
                        (*next, *at) = (place, pc);
                    }
                };
                (self.go_on(index, next, put), did)
            }
            Run::Resolve { ctx, request, ref payload, at } => {
                let content = payload.page(match at {
                    ResolvePc::Page(done) => done as usize,
                    ResolvePc::Enter
                    | ResolvePc::Locked
                    | ResolvePc::Source(_)
                    | ResolvePc::Protect(_)
                    | ResolvePc::Wake { .. } => 0,
                });
                let (next, did) = self.step_resolve(mm, ctx, request, content, at);
                (self.go_on(index, next, |run, pc| set!(run, Resolve, at, pc)), did)
            }
            Run::Read { ctx, max, taken } => {
                let (next, did) = self.step_read(thread, ctx, max, taken);
                (self.go_on(index, next, |run, n| set!(run, Read, taken, n)), did)
            }
            Run::Unregister { ctx, range } => {
                let (ret, did) = self.step_unregister(ctx, range);
                self.settle_huge();
                (Some(Run::Done(ret)), did)
            }
            Run::Closing { ctx } => {
                let (ret, did) = self.step_closing(ctx);
                self.settle_huge();
                (Some(Run::Done(ret)), did)
            }
            Run::CopyFrom(ref copy) => {
                let copy = **copy;
                let (next, did) = self.step_copy_from(thread, mm, copy);
                let put = |run: &mut Run, copy| *run = Run::CopyFrom(Box::new(copy));
                (self.go_on(index, next, put), did)
            }
            Run::WithStruct(ref call) => {
                let call = call.clone();
                let (next, did) = self.step_with_struct(thread, mm, call);
                (self.go_on(index, next, |run, call| *run = Run::WithStruct(call)), did)
            }
            Run::Transfer(ref transfer) => {
                let transfer = **transfer;
                let (next, did) = self.step_transfer(thread, mm, transfer);
                let put = |run: &mut Run, transfer| *run = Run::Transfer(Box::new(transfer));
                (self.go_on(index, next, put), did)
            }
            Run::FaultIn(ref call) => {
                let pages = call.pages;
                self.step_fault_in(thread, mm, pages)
            }
            Run::Walk(ref walk) => {
                let walk = **walk;
                let (next, did) = self.step_walk(mm, walk);
                (self.go_on(index, next, |run, walk| *run = Run::Walk(Box::new(walk))), did)
            }
            Run::Scan(_) => {
                let Run::Scan(scan) = core::mem::take(&mut slot.run) else { unreachable!() };
                let (next, did) = self.step_scan(thread, mm, scan);
                (self.go_on(index, next, |run, scan| *run = Run::Scan(scan)), did)
            }
            Run::Once(_) => {
                let Run::Once(call) = core::mem::take(&mut slot.run) else { unreachable!() };
                let (run, did) = match *call {
                    Call::File(call) => self.step_file_call(thread, mm, call),
                    Call::Process(call) => self.step_process_call(thread, mm, call),
                    Call::Fork if self.processes.is_some() => self.fork_process(thread, mm, false),
                    Call::Mprotect { range, prot } => self.mprotect(thread, mm, range, prot),
                    Call::Mmap(request) => self.step_mmap(thread, mm, &request),
                    call => self.step_once(mm, call),
                };
                self.settle_huge();
                (Some(run), did)
            }
            Run::Long(_) => {
                let Run::Long(long) = core::mem::take(&mut slot.run) else { unreachable!() };
                let (run, did) = self.step_long(thread, mm, *long);
                self.settle_huge();
                (Some(run), did)
            }
            Run::Idle | Run::Done(_) | Run::Dead => {
                unreachable!("thread {} has nothing to do", thread.0)
            }
        };
        if let Some(run) = done {
            let run = if self.asides.is_empty() { run } else { self.go_on_aside(thread, run) };
            self.threads[index].run = match run {
                Run::Done(ret) if self.processes.is_some() => self.leave(thread, ret),
                run => run,
            };
        }
        did
    }

    /// Put the place a call has come to where it belongs; hand back what replaces a call
    /// that is over.
    #[inline]
    fn go_on<P>(
        &mut self,
        thread: usize,
        next: Next<P>,
        put: impl FnOnce(&mut Run, P),
    ) -> Option<Run> {
        match next {
            Next::At(place) => {
                put(&mut self.threads[thread].run, place);
                None
            }
            Next::Done(ret) => Some(Run::Done(ret)),
        }
    }

    /// Perform `call` to its end on behalf of `thread`, nobody else moving.
    ///
    /// # Panics
    ///
    /// If the call would sleep.
    pub fn run(&mut self, thread: ThreadId, call: Call) -> Ret {
        self.begin(thread, call);
        loop {
            if let Some(ret) = self.take_ret(thread) {
                return ret;
            }
            assert!(self.can_step(thread), "the call sleeps: {:?}", self.sleep(thread));
            self.step(thread);
        }
    }

    fn mm(&mut self, mm: MmId) -> &mut Mm {
        &mut self.mms[usize::from(mm.0)]
    }

    fn ctx_mut(&mut self, ctx: CtxId) -> &mut Ctx {
        &mut self.ctxs[ctx.0 as usize]
    }

    /// Wake every faulter of `ctx` in `range` (rule c11): each starts its access over (F5).
    fn wake_range(&mut self, ctx: CtxId, range: shims::Span) -> u32 {
        let threads = &mut self.threads;
        self.ctxs[ctx.0 as usize].unlink(range, |thread| {
            let at = threads[usize::from(thread.0)].run.fault_pc();
            let at = at.unwrap_or_else(|| unreachable!("thread {} is no faulter", thread.0));
            // One that has not come to sleep yet finds out in F3.
            if let FaultPc::Asleep(_) = at {
                *at = FaultPc::Classify;
            }
        })
    }
}

fn page_addr(page: Vpn) -> Addr {
    Addr::new(page << 12)
}

fn page_of(addr: Addr) -> Vpn {
    addr.raw() >> 12
}
