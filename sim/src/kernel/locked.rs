//! Memory that is to be there at once: what `mlock` locks, what becomes writable while it is
//! locked, what `mremap` adds to it, and what `MAP_LOCKED` and `MAP_POPULATE` map. Owns which
//! pages these are, when they come and whose errors are told (rules c9, c15); page by page it goes
//! in `transfer.rs`.

use shims::{Addr, Span};

use super::call::{MmId, Ret, ThreadId};
use super::did::Did;
use super::fault::{By, Fault};
use super::run::{FaultPc, Next, Run};
use super::transfer::Transfer;
use super::{Aside, Kernel, PAGE, page_addr, page_of};
use crate::vma::{MapFlags, Mmap, Mremap, Prot, VmaFlags};

/// Pages that are faulted in before the call goes on, or returns.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct FaultIn {
    pub(super) pages: Transfer,
    then: Run,
}

impl Kernel {
    /// `mlock(2)` or `mlock2(2)`: the mappings are locked at once, and then the pages come one
    /// after another. What could be locked stays locked if they do not.
    pub(super) fn mlock(&mut self, mm: MmId, range: Span, on_fault: bool) -> (Run, Did) {
        let space = &mut self.mm(mm).space;
        let locked = space.lock_vmas(range.start.raw(), range.len.bytes(), on_fault);
        let ret = match locked {
            // What was locked on fault is passed over page by page: huge pages never are (measured).
            Ok((start, end)) if start < end => {
                let span = Span::between(Addr::new(start), Addr::new(end)).expect("it ascends");
                let pages = Transfer::pages(span, true);
                return (Run::Transfer(Box::new(pages)), Did::Lock { span });
            }
            Ok(_) => Ret::Ok(0),
            Err(errno) => Ret::Err(errno),
        };
        (Run::Done(ret), Did::Return(ret))
    }

    /// What `mmap` has mapped locked, or to be populated, comes when those have read who are told
    /// of what it replaced (measured; c15).
    pub(super) fn mapped(
        &mut self,
        thread: ThreadId,
        mm: MmId,
        asked: &Mmap,
        at: Addr,
        (run, did): (Run, Did),
    ) -> (Run, Did) {
        let flags = self.space(mm).find(at).map_or(VmaFlags::empty(), |vma| vma.flags());
        let wanted = flags.contains(VmaFlags::LOCKED) || asked.flags.contains(MapFlags::POPULATE);
        let Some(span) = Span::between(at, Addr::new(at.raw() + asked.len)).filter(|_| wanted)
        else {
            return (run, did);
        };
        let pages = Transfer::pages(span, false);
        match run {
            Run::Done(_) => {
                (Run::FaultIn(Box::new(FaultIn { pages, then: run })), Did::Lock { span })
            }
            run => {
                self.asides.push((thread, Aside::FaultIn(pages)));
                (run, did)
            }
        }
    }

    /// The call of `thread` is over but for the pages that it faults in last.
    pub(super) fn fault_in_last(&mut self, thread: ThreadId, run: Run) -> Run {
        let is_pages =
            |(of, aside): &(ThreadId, Aside)| *of == thread && matches!(aside, Aside::FaultIn(_));
        let Some(at) = self.asides.iter().position(is_pages) else { return run };
        let (_, Aside::FaultIn(pages)) = self.asides.remove(at) else { unreachable!() };
        Run::FaultIn(Box::new(FaultIn { pages, then: run }))
    }

    /// What `mremap` has added to locked memory comes before anybody is told that it moved, and
    /// after the count of those who will be was raised (measured; c15): a handler that is asked
    /// for such a page cannot give it.
    pub(super) fn grown(&self, mm: MmId, asked: &Mremap, ret: Ret, run: (Run, Did)) -> (Run, Did) {
        let (Ret::Ok(at), true) = (ret, asked.new_len > asked.old_len) else { return run };
        let whole = |len: u64| len.next_multiple_of(PAGE.bytes());
        let at = |len| Addr::new(at + whole(len));
        let locked = |addr| {
            let vma = self.space(mm).find(addr);
            vma.is_some_and(|vma| vma.flags().contains(VmaFlags::LOCKED))
        };
        match Span::between(at(asked.old_len), at(asked.new_len)) {
            Some(span) if span.len.bytes() > 0 && locked(span.start) => {
                let pages = Transfer::pages(span, false);
                let (then, did) = run;
                let did = if matches!(then, Run::Done(_)) { Did::Lock { span } } else { did };
                (Run::FaultIn(Box::new(FaultIn { pages, then })), did)
            }
            _ => run,
        }
    }

    pub(super) fn step_fault_in(
        &mut self,
        thread: ThreadId,
        mm: MmId,
        pages: Transfer,
    ) -> (Option<Run>, Did) {
        let (next, did) = self.step_transfer(thread, mm, pages);
        let run = &mut self.threads[usize::from(thread.0)].run;
        let Run::FaultIn(call) = run else { unreachable!("it is in this call") };
        match next {
            Next::At(pages) => {
                call.pages = pages;
                (None, did)
            }
            Next::Done(_) => {
                let Run::FaultIn(call) = core::mem::take(run) else { unreachable!() };
                match (did, call.then) {
                    (Did::Return(_), Run::Done(ret)) => (Some(Run::Done(ret)), Did::Return(ret)),
                    // Nothing came of this step, so it is the next one's.
                    (Did::Return(_), then) => {
                        self.threads[usize::from(thread.0)].run = then;
                        (None, self.step(thread))
                    }
                    (did, then) => (Some(then), did),
                }
            }
        }
    }

    /// `mprotect`. Private memory that is locked and becomes writable gets pages of its own at
    /// once, without giving the lock back: a page that somebody else would have to bring, or to
    /// allow, is the end of that for its mapping (measured; c15).
    pub(super) fn mprotect(
        &mut self,
        thread: ThreadId,
        mm: MmId,
        range: Span,
        prot: Prot,
    ) -> (Run, Did) {
        let asleep = if prot.flags().contains(VmaFlags::WRITE) {
            self.locked_asleep(mm, range)
        } else {
            Vec::new()
        };
        let space = &mut self.mm(mm).space;
        let done = space.mprotect(range.start.raw(), range.len.bytes(), prot);
        for (start, end) in asleep {
            let vma = self.space(mm).find(start);
            // Where it failed half-way the others are as they were.
            if vma.is_some_and(|vma| vma.flags().contains(VmaFlags::WRITE)) {
                self.fault_in_now(thread, mm, start, end);
            }
        }
        let ret = done.map_or_else(Ret::Err, |()| Ret::Ok(0));
        (Run::Done(ret), Did::Return(ret))
    }

    /// The parts of `range` that would wake up if they could be written.
    fn locked_asleep(&self, mm: MmId, range: Span) -> Vec<(Addr, Addr)> {
        // The call goes by whole pages.
        let Some(end) =
            range.end().and_then(|end| end.raw().checked_next_multiple_of(PAGE.bytes()))
        else {
            return Vec::new();
        };
        let end = Addr::new(end);
        let first = self.space(mm).find_next(range.start).map(|vma| vma.start());
        let bits = VmaFlags::LOCK | VmaFlags::WRITE | VmaFlags::SHARED;
        let all = self.space(mm).iter();
        all.skip_while(|vma| Some(vma.start()) < first)
            .take_while(|vma| vma.start() < end)
            .filter(|vma| vma.flags() & bits == VmaFlags::LOCKED)
            .map(|vma| (vma.start().max(range.start), vma.end().min(end)))
            .collect()
    }

    fn fault_in_now(&mut self, thread: ThreadId, mm: MmId, start: Addr, end: Addr) {
        let mut vpn = self.granule(mm, page_of(start));
        while vpn < page_of(end) {
            let place = (page_addr(vpn), vpn);
            let mut at = FaultPc::Classify;
            let content = loop {
                match self.step_fault(thread, mm, place, By::ForceWrite, at) {
                    Fault::At(next, _) => at = next,
                    Fault::Ready(content) => break content,
                    Fault::Refused(_) | Fault::Killed(_) => return,
                }
            };
            self.write_page(mm, vpn, content);
            vpn += self.granule_pages(mm, vpn);
        }
    }

    /// Where the next page is that locked memory wants, from `next` on, and how it is faulted in:
    /// private memory that may be written gets pages of its own. Mappings that are locked on fault
    /// are passed over; `None` at the end. Memory without any access is refused by the fault.
    pub(super) fn lock_by(
        &self,
        mm: MmId,
        mut next: Addr,
        end: Addr,
        at: FaultPc,
    ) -> Option<(Addr, By)> {
        loop {
            let vma = self.space(mm).find_next(next);
            if at == FaultPc::Classify {
                // What was unmapped meanwhile is passed over; a hole from the start was refused.
                next = vma?.start().max(next);
                if next >= end {
                    return None;
                }
            }
            let flags = vma.map_or(VmaFlags::empty(), |vma| vma.flags());
            if at == FaultPc::Classify && flags.contains(VmaFlags::LOCKONFAULT) {
                next = vma?.end();
                if next >= end {
                    return None;
                }
                continue;
            }
            let own = flags & (VmaFlags::WRITE | VmaFlags::SHARED) == VmaFlags::WRITE;
            let by = match own {
                true => By::PopulateWrite,
                // Any access will do, where `MADV_POPULATE_READ` goes by the letter.
                false => By::CopyFrom,
            };
            return Some((next, by));
        }
    }
}
