//! `MADV_DONTNEED`, `MADV_DONTNEED_LOCKED` and `MADV_FREE`: the removal of pages in its
//! separate steps.
//!
//! Between E4 (the count is lowered) and E5 (the zap) a `COPY` succeeds and is then wiped
//! (rules d7, d8). That window is where handlers lose installs; it must stay open here.

use shims::{Errno, Event, Features, Span};

use super::call::{MmId, Ret, ThreadId};
use super::did::{Did, HugeDid};
use super::madvise::Madvise;
use super::object::{keeps_markers, maps_object};
use super::page_table::{Pte, PteBits, Vpn};
use super::run::{Next, RemoveCall, RemovePc};
use super::thp::UNIT;
use super::{Kernel, PAGE, page_addr, page_of};
use crate::vma::{Backing, Vma, VmaFlags};

impl Kernel {
    pub(super) fn step_remove(
        &mut self,
        thread: ThreadId,
        mm: MmId,
        mut call: RemoveCall,
    ) -> (Next<RemoveCall>, Did) {
        match call.at {
            RemovePc::Part => self.remove_part(mm, call),
            RemovePc::Announce { ctx, part_end } => {
                let start = page_addr(call.next);
                let span = Span::between(start, page_addr(part_end)).expect("a part ascends");
                let event = Event::Remove(span);
                call.at = if self.queue_event(ctx, thread, event) {
                    RemovePc::Asleep { ctx, part_end }
                } else {
                    RemovePc::Lower { ctx, part_end }
                };
                (Next::At(call), Did::QueueEvent { ctx, event })
            }
            RemovePc::Lower { ctx, part_end } => {
                let changing = self.lower_changing(ctx);
                call.at = RemovePc::Relook { part_end };
                (Next::At(call), Did::LowerChanging { ctx, changing })
            }
            RemovePc::Relook { part_end } => self.remove_relook(mm, call, part_end),
            RemovePc::Zap { part_end } => self.remove_zap(mm, call, part_end),
            RemovePc::Asleep { ctx, part_end } => {
                let did = self.withdraw_event(thread, ctx);
                call.at = RemovePc::Lower { ctx, part_end };
                (Next::At(call), did)
            }
        }
    }

    /// Look at the VMA at `next`. One event per VMA part, in address order (rule d6).
    fn remove_part(&mut self, mm: MmId, mut call: RemoveCall) -> (Next<RemoveCall>, Did) {
        let space = &self.mms[usize::from(mm.0)].space;
        let end = page_addr(call.end);
        let vma = match space.find_next(page_addr(call.next)) {
            Some(vma) if vma.start() < end => vma,
            _ => {
                call.hole = true;
                return finish(&call);
            }
        };
        if page_of(vma.start()) > call.next {
            call.hole = true;
            call.next = page_of(vma.start());
        }
        // d10: refused before any event.
        let Some(part_end) = part_of(vma, &mut call) else { return fail(Errno::EINVAL) };
        if part_end == call.next {
            return finish(&call);
        }
        let anon = vma.backing() == Backing::Anon;
        if let Some(ctx) = vma.uffd()
            && self.ctx(ctx).features.contains(Features::EVENT_REMOVE)
        {
            let changing = self.raise_changing(ctx);
            call.at = RemovePc::Announce { ctx, part_end };
            return (Next::At(call), Did::RaiseChanging { ctx, changing });
        }
        if call.advice == Madvise::Free && !anon {
            return fail(Errno::EINVAL);
        }
        self.mm(mm).readers += 1;
        call.at = RemovePc::Zap { part_end };
        self.remove_zap(mm, call, part_end)
    }

    /// The lock is taken again after the wait, and the VMA looked up again (rule d9): what
    /// is there now is what gets zapped.
    fn remove_relook(
        &mut self,
        mm: MmId,
        mut call: RemoveCall,
        part_end: Vpn,
    ) -> (Next<RemoveCall>, Did) {
        let space = &self.mms[usize::from(mm.0)].space;
        let Some(vma) = space.find(page_addr(call.next)) else {
            return fail(Errno::ENOMEM);
        };
        let Some(end) = part_of(vma, &mut call) else { return fail(Errno::EINVAL) };
        if call.advice == Madvise::Free && vma.backing() != Backing::Anon {
            // d10: this is noticed after the event.
            return fail(Errno::EINVAL);
        }
        let part_end = end.min(part_end);
        self.mm(mm).readers += 1;
        call.at = RemovePc::Zap { part_end };
        self.remove_zap(mm, call, part_end)
    }

    /// E5, one page or marker a step: between two pages other threads can look. A page that
    /// is installed behind the place the zap has reached stays.
    fn remove_zap(
        &mut self,
        mm: MmId,
        mut call: RemoveCall,
        part_end: Vpn,
    ) -> (Next<RemoveCall>, Did) {
        let free = call.advice == Madvise::Free;
        // Of a file: is it watched for writes?
        let file = self.objects.as_ref().and_then(|_| {
            let vma = self.space(mm).find(page_addr(call.next));
            vma.filter(|vma| maps_object(vma)).map(keeps_markers)
        });
        let left = |pte: Pte| match file {
            _ if free => given_up(pte),
            Some(wp) => pte.zapped(wp),
            None => Pte::None,
        };
        let goes = |(_, pte): &(Vpn, Pte)| {
            !pte.is_guard() && (!(free || file.is_some()) || left(*pte) != *pte)
        };
        let table = &mut self.mm(mm).table;
        let found = table.entries_in(call.next, part_end).find(goes);
        if let Some((vpn, pte)) = found {
            call.at = RemovePc::Zap { part_end };
            let what = if free { HugeDid::GiveUp } else { HugeDid::Zap };
            if let Some(did) = self.mm(mm).change_unit(vpn, part_end, what, left) {
                call.next = vpn + UNIT;
                return (Next::At(call), did);
            }
            let table = &mut self.mm(mm).table;
            table.set(vpn, left(pte));
            call.next = vpn + 1;
            let page = page_addr(vpn);
            // f3, e16: a marker goes like a page; a file's protection outlives both.
            let did = match pte {
                Pte::Present { content, .. } if free => Did::GiveUp { page, content },
                Pte::Present { content, .. } => Did::Zap { page, content },
                Pte::None | Pte::Marker(_) => Did::ZapMarker { page },
            };
            return (Next::At(call), did);
        }
        self.mm(mm).readers -= 1;
        call.next = part_end;
        if call.next == call.end {
            return finish(&call);
        }
        call.at = RemovePc::Part;
        (Next::At(call), Did::NextMapping)
    }
}

/// Where the part of the call that lies in `vma` ends; `None` if the call is refused there.
/// Huge pages go whole or not at all: the end is rounded down, and with it the call's, since
/// nothing comes behind it (rule d6).
fn part_of(vma: &Vma, call: &mut RemoveCall) -> Option<Vpn> {
    if vma.page_size() != PAGE {
        let granule = vma.page_size().bytes() / PAGE.bytes();
        if !call.next.is_multiple_of(granule) {
            return None;
        }
        if call.end < page_of(vma.end()) {
            call.end -= call.end % granule;
        }
        if call.advice == Madvise::Free {
            return None;
        }
    } else if vma.flags().contains(VmaFlags::LOCKED) && call.advice != Madvise::DontNeedLocked {
        return None;
    }
    Some(page_of(vma.end()).min(call.end))
}

/// What `MADV_FREE` leaves of an entry (d11): pages stay, with whatever userfaultfd has put on
/// them, until they are reclaimed. It passes over the zero page; poison is the one marker that
/// goes.
fn given_up(pte: Pte) -> Pte {
    match pte {
        Pte::Present { bits, .. } if bits.contains(PteBits::ZERO_PAGE) => pte,
        Pte::Present { content, bits } => Pte::Present { content, bits: bits | PteBits::GIVEN_UP },
        Pte::Marker(marker) if marker.is_poison() => Pte::None,
        pte => pte,
    }
}

fn finish(call: &RemoveCall) -> (Next<RemoveCall>, Did) {
    if call.hole {
        return fail(Errno::ENOMEM);
    }
    (Next::Done(Ret::Ok(0)), Did::Return(Ret::Ok(0)))
}

fn fail(errno: Errno) -> (Next<RemoveCall>, Did) {
    (Next::Done(Ret::Err(errno)), Did::Return(Ret::Err(errno)))
}
