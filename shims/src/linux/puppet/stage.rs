//! What a puppet does in its own process: wait for a string to be pulled, do the one thing,
//! say how it ended. Owns the loop, the raw threads and the signal handlers. Runs after a
//! fork of a process with many threads, so it neither allocates nor panics nor takes a lock.

use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use linux_raw_sys::general as sys;

use super::super::vma_probe::raw;
use super::script::{self, Ended};
use super::{ANSWERED, PATIENCE, SLOTS, Slot, TOLD};

pub(super) const SYSCALL: u64 = 1;
pub(super) const LOAD: u64 = 2;
pub(super) const STORE: u64 = 3;
pub(super) const ADD: u64 = 4;
pub(super) const SPAWN: u64 = 5;
pub(super) const FORK: u64 = 6;
pub(super) const VFORK: u64 = 7;
pub(super) const SCRIPT: u64 = 8;

const STACK: u64 = 64 << 10;

/// The slots, for the signal handlers. Set in a puppet's process only, whose copy of it is
/// its own.
static SLOTS_AT: AtomicPtr<Slot> = AtomicPtr::new(core::ptr::null_mut());

/// The process that pulls the strings. Set as the one before.
static OWNER: AtomicU64 = AtomicU64::new(0);

/// Wake whoever waits for a change of `word`.
pub(super) fn wake(word: &AtomicU32) {
    const FUTEX_WAKE: u64 = 1;
    let place = core::ptr::from_ref(word) as u64;
    // SAFETY: wakes the waiters of a live word.
    unsafe { raw(sys::__NR_futex, [place, FUTEX_WAKE, i32::MAX as u64, 0, 0, 0]) };
}

/// The first thread of the first process: become a puppet.
pub(super) fn enter(shared: *mut u8, owner: u64) -> ! {
    let slots = shared.cast::<Slot>();
    SLOTS_AT.store(slots, Ordering::Release);
    OWNER.store(owner, Ordering::Release);
    // SAFETY: system calls of a process that is nothing but a puppet: descriptors that
    // belong to the process it was forked from are closed, so that none of them is kept
    // open here (rule a19), and the handlers are the functions below.
    unsafe {
        raw(sys::__NR_close_range, [3, u64::from(u32::MAX), 0, 0, 0, 0]);
        for (signal, function) in [
            (sys::SIGSEGV, on_fault as *const () as u64),
            (sys::SIGBUS, on_fault as *const () as u64),
            (sys::SIGUSR1, on_signal as *const () as u64),
        ] {
            // `struct sigaction` of the kernel: handler, flags, restorer, mask.
            let flags = u64::from(sys::SA_SIGINFO | sys::SA_NODEFER) | SA_RESTORER;
            let action = [function, flags, restore as *const () as u64, 0];
            let signal = u64::from(signal);
            raw(sys::__NR_rt_sigaction, [signal, &raw const action as u64, 0, 8, 0, 0]);
        }
        arrive(slots, 0)
    }
}

const SA_RESTORER: u64 = 0x0400_0000;

/// Introduce the first thread of a process, and serve.
///
/// # Safety
///
/// `slots` are the live slots, and nobody else is in slot `index`.
unsafe fn arrive(slots: *mut Slot, index: usize) -> ! {
    mortal();
    // SAFETY: the caller's promise.
    unsafe { serve(slots.add(index)) }
}

/// See to it that this process ends: with the one that pulls the strings, however that ends, and
/// in any case after a while. Every forked process needs it anew.
fn mortal() {
    const PR_SET_PDEATHSIG: u64 = 1;
    const SIGKILL: u64 = 9;
    // SAFETY: these change nothing but what ends this process.
    unsafe {
        raw(sys::__NR_alarm, [PATIENCE, 0, 0, 0, 0, 0]);
        raw(sys::__NR_prctl, [PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0, 0]);
        // All processes of a stage are the owner's children. One that has another parent by now
        // was too late to be told of its owner's end.
        if raw(sys::__NR_getppid, [0; 6]) != OWNER.load(Ordering::Acquire) {
            raw(sys::__NR_exit_group, [98, 0, 0, 0, 0, 0]);
        }
    }
}

/// The life of a thread. It begins with an answer that nobody has asked for: that it is
/// there.
///
/// # Safety
///
/// `slot` is a live slot that nobody else is in.
unsafe extern "C" fn serve(slot: *mut Slot) -> ! {
    // SAFETY: live and accessed by atomics only.
    let mut slot = unsafe { &*slot };
    introduce(slot);
    loop {
        slot.state.store(ANSWERED, Ordering::Release);
        wake(&slot.state);
        loop {
            let state = slot.state.load(Ordering::Acquire);
            if state == TOLD {
                break;
            }
            let place = &raw const slot.state as u64;
            // SAFETY: waits on a live word.
            unsafe { raw(sys::__NR_futex, [place, 0, u64::from(state), 0, 0, 0]) };
        }
        let kind = slot.kind.load(Ordering::Relaxed);
        let mut a = [0_u64; 7];
        for (value, place) in a.iter_mut().zip(&slot.args) {
            *value = place.load(Ordering::Relaxed);
        }
        slot.signal[0].store(0, Ordering::Release);
        let value = if kind == SCRIPT {
            // SAFETY: as below, for every line of the script.
            match unsafe { script::play(slot, a[0], a[1]) } {
                Ended::Here(count) => count,
                Ended::Elsewhere(other) => {
                    // SAFETY: a live slot that nobody else is in.
                    slot = unsafe { &*other };
                    arrived(slot);
                    0
                }
            }
        } else if kind == FORK {
            // SAFETY: as below.
            match unsafe { fork(a[0], a[1]) } {
                Forked::Parent(pid) => pid,
                Forked::Child(other) => {
                    // A process of its own, at the same place of its own stack.
                    // SAFETY: a live slot that nobody else is in.
                    slot = unsafe { &*other };
                    arrived(slot);
                    0
                }
            }
        } else {
            // SAFETY: a puppet touches what it is told to; Rust has nothing there, because the
            // caller names places in mappings that the puppet made itself, or in the scratch
            // memory, which is accessed by atomics.
            unsafe { perform(slot, kind, &a) }
        };
        slot.value.store(value, Ordering::Release);
    }
}

const EINVAL: u64 = (-22_i64) as u64;

/// Do one thing that ends where it began.
///
/// # Safety
///
/// What is named in `a` may be touched.
pub(super) unsafe fn perform(slot: &Slot, kind: u64, a: &[u64; 7]) -> u64 {
    // SAFETY: the caller's promise.
    unsafe {
        match kind {
            SYSCALL => raw(a[0] as u32, [a[1], a[2], a[3], a[4], a[5], a[6]]),
            LOAD if a[1] != 0 => {
                let words = load_both(&slot.resume, a[0]);
                slot.words[0].store(words[0], Ordering::Release);
                slot.words[1].store(words[1], Ordering::Release);
                words[0]
            }
            LOAD => {
                let first = load(&slot.resume, a[0]);
                slot.words[0].store(first, Ordering::Release);
                first
            }
            // A store of one word only.
            STORE if a[3] != 0 => {
                store(&slot.resume, a[0], a[1]);
                0
            }
            STORE => {
                store_both(&slot.resume, a[0], [a[1], a[2]]);
                0
            }
            ADD => add(&slot.resume, a[0], a[1]),
            SPAWN => match nth(a[0]) {
                Some(other) => spawn(other),
                None => EINVAL,
            },
            VFORK => vfork(),
            _ => EINVAL,
        }
    }
}

/// Where a fork has come out.
pub(super) enum Forked {
    /// In the process that forked, with what the call returned.
    Parent(u64),
    /// In the new one, whose thread is in this slot.
    Child(*mut Slot),
}

/// `clone` with `flags` for the slot `index`.
///
/// # Safety
///
/// Nobody is in that slot, and `flags` do not share memory.
pub(super) unsafe fn fork(index: u64, flags: u64) -> Forked {
    let Some(other) = nth(index) else { return Forked::Parent(EINVAL) };
    // SAFETY: the caller's promise.
    match unsafe { raw(sys::__NR_clone, [flags, 0, 0, 0, 0, 0]) } {
        0 => Forked::Child(other),
        pid => Forked::Parent(pid),
    }
}

/// The first thread of a forked process says who it is.
fn arrived(slot: &Slot) {
    introduce(slot);
    mortal();
}

fn introduce(slot: &Slot) {
    // SAFETY: both only answer.
    let (pid, tid) = unsafe { (raw(sys::__NR_getpid, [0; 6]), raw(sys::__NR_gettid, [0; 6])) };
    slot.pid.store(pid as u32, Ordering::Release);
    slot.tid.store(tid as u32, Ordering::Release);
}

fn nth(index: u64) -> Option<*mut Slot> {
    let slots = SLOTS_AT.load(Ordering::Acquire);
    // `wrapping_add` because a check here could panic; `SLOTS` bounds the index.
    (index < SLOTS as u64).then(|| slots.wrapping_add(index as usize))
}

/// A load that a signal may cut short; it has read 0 then.
///
/// # Safety
///
/// Whatever is at `addr` may be read.
unsafe fn load(resume: &AtomicU64, addr: u64) -> u64 {
    let mut value = 0_u64;
    // SAFETY: the handler sends an access that traps to the label behind it; the rest is the
    // caller's promise.
    unsafe {
        core::arch::asm!(
            "lea {t}, [rip + 2f]",
            "mov [{r}], {t}",
            "mov {v}, [{a}]",
            "2:",
            "mov qword ptr [{r}], 0",
            t = out(reg) _,
            r = in(reg) resume.as_ptr(),
            a = in(reg) addr,
            v = inout(reg) value,
            options(nostack),
        );
    }
    value
}

/// Sixteen bytes in one access, which nothing can come between; zeros if a signal cuts it short.
///
/// # Safety
///
/// Whatever is at `addr` may be read.
unsafe fn load_both(resume: &AtomicU64, addr: u64) -> [u64; 2] {
    let mut words = [0_u64; 2];
    // SAFETY: as in `load`; the place that is written is this function's own.
    unsafe {
        core::arch::asm!(
            "pxor {x}, {x}",
            "lea {t}, [rip + 2f]",
            "mov [{r}], {t}",
            "movdqu {x}, [{a}]",
            "2:",
            "mov qword ptr [{r}], 0",
            "movdqu [{w}], {x}",
            x = out(xmm_reg) _,
            t = out(reg) _,
            r = in(reg) resume.as_ptr(),
            a = in(reg) addr,
            w = in(reg) words.as_mut_ptr(),
            options(nostack),
        );
    }
    words
}

/// A store that a signal may cut short.
///
/// # Safety
///
/// Whatever is at `addr` may be overwritten.
unsafe fn store(resume: &AtomicU64, addr: u64, value: u64) {
    // SAFETY: as in `load`.
    unsafe {
        core::arch::asm!(
            "lea {t}, [rip + 2f]",
            "mov [{r}], {t}",
            "mov [{a}], {v}",
            "2:",
            "mov qword ptr [{r}], 0",
            t = out(reg) _,
            r = in(reg) resume.as_ptr(),
            a = in(reg) addr,
            v = in(reg) value,
            options(nostack),
        );
    }
}

/// A store of sixteen bytes in one access, that a signal may cut short.
///
/// # Safety
///
/// Whatever is at `addr` may be overwritten.
unsafe fn store_both(resume: &AtomicU64, addr: u64, words: [u64; 2]) {
    // SAFETY: as in `load`.
    unsafe {
        core::arch::asm!(
            "movdqu {x}, [{w}]",
            "lea {t}, [rip + 2f]",
            "mov [{r}], {t}",
            "movdqu [{a}], {x}",
            "2:",
            "mov qword ptr [{r}], 0",
            x = out(xmm_reg) _,
            t = out(reg) _,
            r = in(reg) resume.as_ptr(),
            a = in(reg) addr,
            w = in(reg) words.as_ptr(),
            options(nostack),
        );
    }
}

/// An atomic addition that a signal may cut short.
///
/// # Safety
///
/// Whatever is at `addr` may be overwritten.
unsafe fn add(resume: &AtomicU64, addr: u64, value: u64) -> u64 {
    let mut value = value;
    // SAFETY: as in `load`.
    unsafe {
        core::arch::asm!(
            "lea {t}, [rip + 2f]",
            "mov [{r}], {t}",
            "lock xadd [{a}], {v}",
            "2:",
            "mov qword ptr [{r}], 0",
            t = out(reg) _,
            r = in(reg) resume.as_ptr(),
            a = in(reg) addr,
            v = inout(reg) value,
            options(nostack),
        );
    }
    value
}

/// A thread of this process that serves in `slot`.
///
/// # Safety
///
/// `slot` is live and nobody is in it.
unsafe fn spawn(slot: *mut Slot) -> u64 {
    let prot = u64::from(sys::PROT_READ | sys::PROT_WRITE);
    let flags = u64::from(sys::MAP_PRIVATE | sys::MAP_ANONYMOUS);
    let share = u64::from(
        sys::CLONE_VM
            | sys::CLONE_FS
            | sys::CLONE_FILES
            | sys::CLONE_SIGHAND
            | sys::CLONE_THREAD
            | sys::CLONE_SYSVSEM,
    );
    // SAFETY: a new mapping is the new thread's stack; the thread runs `serve`, which never
    // returns, and uses nothing of the stack it was cloned from.
    unsafe {
        let stack = raw(sys::__NR_mmap, [0, STACK, prot, flags, u64::MAX, 0]);
        if stack > EINVAL.wrapping_sub(4096) {
            return stack;
        }
        let mut value = u64::from(sys::__NR_clone);
        core::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call r13",
            "ud2",
            "2:",
            inlateout("rax") value,
            in("rdi") share,
            in("rsi") stack.wrapping_add(STACK).wrapping_sub(64),
            in("rdx") 0_u64,
            in("r10") 0_u64,
            in("r8") 0_u64,
            in("r12") slot,
            in("r13") serve as *const (),
            lateout("rcx") _,
            lateout("r11") _,
        );
        value
    }
}

/// `vfork`: the child uses no stack, for it is its parent's.
///
/// # Safety
///
/// None: the child exits at once.
unsafe fn vfork() -> u64 {
    let mut value = u64::from(sys::__NR_clone);
    let flags = u64::from(sys::CLONE_VM | sys::CLONE_VFORK | sys::SIGCHLD);
    // SAFETY: between the two system calls the child touches registers only.
    unsafe {
        core::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor edi, edi",
            "mov eax, 60",
            "syscall",
            "ud2",
            "2:",
            inlateout("rax") value,
            in("rdi") flags,
            in("rsi") 0_u64,
            in("rdx") 0_u64,
            in("r10") 0_u64,
            in("r8") 0_u64,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    value
}

/// The slot of the thread that runs.
fn own_slot() -> Option<*mut Slot> {
    // SAFETY: only answers.
    let tid = unsafe { raw(sys::__NR_gettid, [0; 6]) } as u32;
    (0..SLOTS as u64).filter_map(nth).find(|slot| {
        // SAFETY: live and accessed by atomics only.
        unsafe { &**slot }.tid.load(Ordering::Acquire) == tid
    })
}

/// `SIGSEGV` or `SIGBUS`: note it, and go on behind the access.
unsafe extern "C" fn on_fault(number: i32, info: *const u8, context: *mut u8) {
    /// Where the instruction pointer is in `ucontext_t`.
    const RIP: usize = 40 + 16 * 8;
    // SAFETY: the kernel passes a `siginfo_t` and a `ucontext_t`; the offsets are those of
    // the x86-64 ABI.
    unsafe {
        if let Some(slot) = own_slot() {
            let slot = &*slot;
            let resume = slot.resume.load(Ordering::Acquire);
            if resume != 0 {
                let code = i64::from(info.wrapping_add(8).cast::<i32>().read());
                let addr = info.wrapping_add(16).cast::<u64>().read();
                slot.signal[1].store(code as u64, Ordering::Release);
                slot.signal[2].store(addr, Ordering::Release);
                slot.signal[0].store(number as u64, Ordering::Release);
                context.wrapping_add(RIP).cast::<u64>().write(resume);
                return;
            }
        }
        // A fault of the puppet's own.
        raw(sys::__NR_exit_group, [99, 0, 0, 0, 0, 0]);
    }
}

/// `SIGUSR1`: count it.
extern "C" fn on_signal(_: i32, _: *const u8, _: *mut u8) {
    if let Some(slot) = own_slot() {
        // SAFETY: live and accessed by atomics only.
        unsafe { &*slot }.handled.fetch_add(1, Ordering::AcqRel);
    }
}

#[unsafe(naked)]
extern "C" fn restore() {
    core::arch::naked_asm!("mov eax, 15", "syscall")
}
