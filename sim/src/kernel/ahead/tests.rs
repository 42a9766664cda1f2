//! What the answers promise, and what a step then does: at every state of random runs of a kernel
//! whose memory is missing, protected, poisoned, guarded, read-only or huge, and whose userfaultfd
//! is of any kind. Owns the runs and the comparison.

use rand::rngs::ChaCha8Rng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use shims::{CopyMode, Features, Len, PoisonMode, Request, Span, WriteProtectMode, ZeropageMode};

use super::*;
use crate::Content;
use crate::kernel::{Call, Did, Madvise, PAGE, Payload, Thp};
use crate::profile::Profile;
use crate::vma::{Mmap, Prot};

const BASE: u64 = 0x2000_0000_0000;
/// Threads that use the memory; two more serve them.
const USERS: u16 = 3;

struct Run {
    kernel: Kernel,
    random: ChaCha8Rng,
    mm: MmId,
    ctx: CtxId,
    pages: u64,
}

/// How often each answer was put to the test.
#[derive(Default, Debug)]
struct Tried {
    asks: u32,
    protected: u32,
    will_ask: u32,
    sleeps: u32,
    wakes: u32,
    goes_on: u32,
    through: u32,
    there: u32,
    kept: u32,
}

fn page(at: u64) -> Addr {
    Addr::new(BASE + at * PAGE.bytes())
}

impl Run {
    fn new(seed: u64) -> Run {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut kernel = Kernel::new(Profile::linux_6_18());
        let huge = random.random_ratio(1, 8);
        let pages = if huge { 512 } else { 3 };
        let mm = kernel.new_mm();
        let main = kernel.new_thread(mm);
        kernel.run(main, Call::Mmap(Mmap::fixed(BASE, pages * PAGE.bytes(), Prot::RW)));
        kernel.set_thp(if huge { Thp::Always } else { Thp::Never });
        let some = [
            Features::SIGBUS,
            Features::WP_ASYNC,
            Features::WP_UNPOPULATED,
            Features::EVENT_REMOVE,
        ];
        let mut features = Features::PAGEFAULT_FLAG_WP;
        for feature in some {
            if random.random_ratio(1, 4) {
                features |= feature;
            }
        }
        let ctx = kernel.userfaultfd(mm, features).expect("6.18 has them");
        kernel.ctxs[ctx.0 as usize].user_mode_only = random.random_ratio(1, 6);
        for _ in 0..USERS + 2 {
            kernel.new_thread(mm);
        }
        let mut run = Run { kernel, random, mm, ctx, pages };
        let modes = run.modes();
        let range = Span::new(page(0), Len::new(pages * PAGE.bytes()));
        run.kernel.run(main, Call::Register { ctx, range, modes });
        run
    }

    fn modes(&mut self) -> RegisterModes {
        let (missing, wp) = (RegisterModes::MISSING, RegisterModes::WP);
        *[missing | wp, missing | wp, missing, wp].choose(&mut self.random).expect("four")
    }

    fn span(&mut self) -> Span {
        let at = self.random.random_range(0..3);
        let count = if self.random.random_ratio(1, 4) { 3 - at } else { 1 };
        Span::new(page(at), Len::new(count * PAGE.bytes()))
    }

    fn call(&mut self, serves: bool) -> Call {
        let (ctx, range) = (self.ctx, self.span());
        let addr = range.start;
        let content = Content::Source { page: 7, version: 0 };
        if serves {
            let (request, payload) = match self.random.random_range(0..12) {
                0..3 => return Call::Read { ctx, max: 4 },
                3..5 => {
                    let mode =
                        if self.random.random_bool(0.5) { CopyMode::WP } else { CopyMode::empty() };
                    let one = Span::new(addr, Len::new(PAGE.bytes()));
                    (Request::Copy { dst: one, mode }, Payload::One(content))
                }
                5 => (Request::Zeropage { range, mode: ZeropageMode::empty() }, Payload::None),
                6 | 7 => {
                    (Request::WriteProtect { range, mode: WriteProtectMode::WP }, Payload::None)
                }
                8 => (
                    Request::WriteProtect { range, mode: WriteProtectMode::empty() },
                    Payload::None,
                ),
                9 => (Request::Poison { range, mode: PoisonMode::empty() }, Payload::None),
                _ => (Request::Wake { range }, Payload::None),
            };
            return Call::Resolve { ctx, request, payload };
        }
        match self.random.random_range(0..40) {
            0..10 => Call::Load { addr },
            10..20 => Call::Store { addr, content },
            20..24 => Call::Populate { range, write: self.random.random_bool(0.5) },
            24..28 => Call::DontNeed { range },
            28 => Call::Madvise { range, advice: Madvise::GuardInstall },
            29 => Call::Madvise { range, advice: Madvise::GuardRemove },
            30 => Call::Madvise { range, advice: Madvise::Free },
            31 => Call::Mprotect { range, prot: Prot::NONE },
            32 => Call::Mprotect { range, prot: Prot::READ },
            33 | 34 => Call::Mprotect { range, prot: Prot::RW },
            35 => Call::Unregister { ctx, range },
            36 | 37 => Call::Register { ctx, range, modes: self.modes() },
            38 => Call::Fork,
            _ if self.random.random_ratio(1, 3) => Call::Close { ctx },
            _ => Call::Load { addr },
        }
    }

    /// One step of somebody.
    fn go(&mut self) {
        let thread = ThreadId(1 + self.random.random_range(0..USERS + 2));
        if self.kernel.idle(thread) {
            self.kernel.take_ret(thread);
            self.kernel.inbox(thread).clear();
            let serves = thread.0 > USERS;
            let closed = self.kernel.ctx(self.ctx).released;
            let call = self.call(serves);
            if !(serves && closed) {
                self.kernel.begin(thread, call);
            }
        } else if self.kernel.can_step(thread) {
            self.kernel.step(thread);
        }
    }

    /// The ways to touch a page.
    fn touches(&self, at: u64, write: bool) -> [Call; 2] {
        let (addr, content) = (page(at), Content::Zero);
        let access = if write { Call::Store { addr, content } } else { Call::Load { addr } };
        [access, Call::Populate { range: Span::new(addr, Len::new(PAGE.bytes())), write }]
    }

    fn check(&self, tried: &mut Tried) {
        for at in 0..3.min(self.pages) {
            for write in [false, true] {
                self.check_touch(at, write, tried);
            }
        }
        for n in 1..=USERS {
            self.check_thread(ThreadId(n), tried);
        }
        for n in USERS + 1..=USERS + 2 {
            self.check_server(ThreadId(n), tried);
        }
        self.check_next(tried);
    }

    fn check_touch(&self, at: u64, write: bool, tried: &mut Tried) {
        let vpn = page_of(page(at));
        let asks = self.kernel.asks(self.mm, vpn, write);
        let will = self.kernel.will_ask(self.mm, vpn);
        let kept = !self.kernel.may_be_replaced(self.mm, vpn);
        for call in self.touches(at, write) {
            let mut kernel = self.kernel.clone();
            let thread = kernel.new_thread(self.mm);
            kernel.begin(thread, call.clone());
            if !kernel.can_step(thread) {
                continue;
            }
            let did = kernel.step(thread);
            if kept {
                tried.kept += 1;
                assert!(!matches!(did, Did::Replace { .. }), "{call:?} replaces a page: {did:?}");
            }
            if will {
                tried.will_ask += 1;
                assert_eq!(
                    kernel.table(self.mm).get(vpn),
                    Pte::None,
                    "{call:?} brings a page: {did:?}"
                );
            }
            if self.kernel.table(self.mm).get(vpn).is_present() && !write {
                tried.there += 1;
                assert!(
                    !matches!(kernel.whereabouts(thread), At::Queue { .. }),
                    "{call:?}: {did:?}"
                );
            }
            let Some(asks) = asks else { continue };
            tried.asks += 1;
            tried.protected += u32::from(asks == Asks::Protected);
            assert_eq!(
                kernel.whereabouts(thread),
                At::Queue { page: vpn, stands: true },
                "{call:?}: {did:?}"
            );
            let did = kernel.step(thread);
            let Did::QueueFault { wp, .. } = did else {
                panic!("{call:?} asks for nothing: {did:?}")
            };
            assert_eq!(wp, asks == Asks::Protected, "{call:?}");
            let did = kernel.step(thread);
            assert!(matches!(did, Did::Sleep { .. }), "{call:?} does not wait: {did:?}");
        }
    }

    fn check_thread(&self, thread: ThreadId, tried: &mut Tried) {
        let mut kernel = self.kernel.clone();
        match kernel.whereabouts(thread) {
            At::Queue { page, stands } if !kernel.ctx(self.ctx).released => {
                let did = kernel.step(thread);
                assert!(matches!(did, Did::QueueFault { .. }), "about to queue: {did:?}");
                let did = kernel.step(thread);
                tried.sleeps += 1;
                let sleeps = matches!(did, Did::Sleep { .. });
                assert!(sleeps || !stands, "{page:#x} stands: {did:?}");
            }
            At::Drowsy { .. } => {
                tried.sleeps += 1;
                let did = kernel.step(thread);
                assert!(matches!(did, Did::Sleep { .. }), "drowsy: {did:?}");
            }
            At::Woken { .. } => {
                tried.wakes += 1;
                let did = kernel.step(thread);
                assert!(!matches!(did, Did::Sleep { .. }), "woken: {did:?}");
            }
            At::Asleep { .. } => assert!(!kernel.can_step(thread), "it sleeps"),
            _ => {}
        }
    }

    /// Who has come to the end of his pages changes nothing, and wakes nobody, by finding that out.
    fn check_server(&self, thread: ThreadId, tried: &mut Tried) {
        if !matches!(self.kernel.resolving(thread), Some((_, Resolving::Through))) {
            return;
        }
        let mut kernel = self.kernel.clone();
        kernel.step(thread);
        tried.through += 1;
        let waiting = |kernel: &Kernel| {
            let ctx = kernel.ctx(self.ctx);
            (ctx.pending.len(), ctx.taken.len())
        };
        assert_eq!(waiting(&kernel), waiting(&self.kernel));
        assert!((0..3).all(|at| {
            let vpn = page_of(page(at));
            kernel.table(self.mm).get(vpn) == self.kernel.table(self.mm).get(vpn)
        }));
    }

    /// Whose fault is read next sleeps, or is about to.
    fn check_next(&self, tried: &mut Tried) {
        let Some(vpn) = self.kernel.next_fault(self.ctx) else { return };
        let mut kernel = self.kernel.clone();
        let thread = kernel.ctx(self.ctx).pending[0].thread;
        tried.goes_on += 1;
        if kernel.can_step(thread) {
            let did = kernel.step(thread);
            assert!(matches!(did, Did::Sleep { .. }), "it does not wait for {vpn:#x}: {did:?}");
        }
    }
}

#[test]
fn what_is_promised_of_a_step_the_step_does() {
    let mut tried = Tried::default();
    for seed in 0..1_500 {
        let mut run = Run::new(seed);
        for _ in 0..60 {
            run.go();
            run.check(&mut tried);
        }
    }
    let Tried { asks, protected, will_ask, sleeps, wakes, goes_on, through, there, kept } = tried;
    let all = [asks, protected, will_ask, sleeps, wakes, goes_on, through, there, kept];
    assert!(all.iter().all(|count| *count > 300), "{tried:?}");
}
