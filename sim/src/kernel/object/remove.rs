//! `madvise(MADV_REMOVE)`: a hole in the file behind a mapping, announced to whoever watches
//! that mapping and to nobody else (rules d6, d10, d12). Owns its steps; what happens to each
//! page is in `cut.rs`.

use shims::{Errno, Event, Features, Span};

use super::super::call::{MmId, Ret, ThreadId};
use super::super::did::Did;
use super::super::page_table::Vpn;
use super::super::run::Next;
use super::super::{Kernel, PAGE, page_addr, page_of};
use super::cut::Cut;
use super::map::place;
use crate::vma::{CtxId, Vma, VmaFlags};

/// `madvise(MADV_REMOVE)` over `[next, end)`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct RemoveFile {
    pub(crate) next: Vpn,
    pub(crate) end: Vpn,
    /// A hole was met: `ENOMEM` at the end, after the rest is done.
    pub(crate) unmapped: bool,
    pub(crate) at: RemoveFilePc,
}

/// Where such a removal is. The file is held from the look at the mapping on: what the wait
/// changes about the mapping is of no account.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum RemoveFilePc {
    /// Look at the VMA at `next`; raise `mmap_changing` if it wants an event.
    Part,
    /// E2: queue the event.
    Announce(CtxId, Cut),
    /// Asleep until a reader takes the event.
    Asleep(CtxId, Cut),
    /// E4: the event was taken; lower `mmap_changing`.
    Lower(CtxId, Cut),
    /// E5: page after page.
    Cut(Cut),
}

impl RemoveFile {
    pub(crate) fn new(next: Vpn, end: Vpn) -> RemoveFile {
        RemoveFile { next, end, unmapped: false, at: RemoveFilePc::Part }
    }
}

impl Kernel {
    pub(in crate::kernel) fn step_remove_file(
        &mut self,
        thread: ThreadId,
        mm: MmId,
        mut call: RemoveFile,
    ) -> (Next<RemoveFile>, Did) {
        match call.at {
            RemoveFilePc::Part => self.remove_file_part(mm, call),
            RemoveFilePc::Announce(ctx, cut) => {
                let start = page_addr(call.next);
                let span = Span::between(start, page_addr(call.next + cut.pages()));
                let event = Event::Remove(span.expect("a part ascends"));
                call.at = if self.queue_event(ctx, thread, event) {
                    RemoveFilePc::Asleep(ctx, cut)
                } else {
                    RemoveFilePc::Lower(ctx, cut)
                };
                (Next::At(call), Did::QueueEvent { ctx, event })
            }
            RemoveFilePc::Lower(ctx, cut) => {
                let changing = self.lower_changing(ctx);
                call.next += cut.pages();
                call.at = RemoveFilePc::Cut(cut);
                (Next::At(call), Did::LowerChanging { ctx, changing })
            }
            RemoveFilePc::Cut(cut) => self.remove_file_page(call, cut),
            RemoveFilePc::Asleep(ctx, cut) => {
                let did = self.withdraw_event(thread, ctx);
                call.at = RemoveFilePc::Lower(ctx, cut);
                (Next::At(call), did)
            }
        }
    }

    /// Look at the VMA at `next`. One event per VMA part, in address order (rule d6).
    fn remove_file_part(&mut self, mm: MmId, mut call: RemoveFile) -> (Next<RemoveFile>, Did) {
        let end = page_addr(call.end);
        let found = self.space(mm).find_next(page_addr(call.next)).filter(|vma| vma.start() < end);
        let Some(&vma) = found else {
            call.unmapped = true;
            return finish(&call);
        };
        if page_of(vma.start()) > call.next {
            call.unmapped = true;
            call.next = page_of(vma.start());
        }
        let part_end = page_of(vma.end()).min(call.end);
        let cut = match cut_of(&vma, call.next, part_end) {
            Ok(cut) => cut,
            Err(errno) => return fail(errno),
        };
        if let Some(ctx) = vma.uffd()
            && self.ctx(ctx).features.contains(Features::EVENT_REMOVE)
        {
            let changing = self.raise_changing(ctx);
            call.at = RemoveFilePc::Announce(ctx, cut);
            return (Next::At(call), Did::RaiseChanging { ctx, changing });
        }
        call.next = part_end;
        self.remove_file_page(call, cut)
    }

    fn remove_file_page(&mut self, mut call: RemoveFile, cut: Cut) -> (Next<RemoveFile>, Did) {
        match self.step_cut(cut) {
            (Next::At(cut), did) => {
                call.at = RemoveFilePc::Cut(cut);
                (Next::At(call), did)
            }
            (Next::Done(_), _) if call.next < call.end => {
                call.at = RemoveFilePc::Part;
                (Next::At(call), Did::NextMapping)
            }
            (Next::Done(_), _) => finish(&call),
        }
    }
}

/// The hole that stands for pages `[start, end)` of `vma`, or what speaks against it, before
/// any event (rule d10).
fn cut_of(vma: &Vma, start: Vpn, end: Vpn) -> Result<Cut, Errno> {
    if vma.flags().contains(VmaFlags::LOCKED) {
        return Err(Errno::EINVAL);
    }
    let (file, index) = place(vma, start).ok_or(Errno::EINVAL)?;
    if !vma.flags().contains(VmaFlags::SHARED | VmaFlags::MAYWRITE) {
        return Err(Errno::EACCES);
    }
    let granule = vma.page_size().bytes() / PAGE.bytes();
    if !start.is_multiple_of(granule) || !end.is_multiple_of(granule) {
        // It would clear parts of huge pages, and a page has one content here.
        return Err(Errno::ENOTMODELLED);
    }
    Ok(Cut::hole(file, index, index + (end - start)))
}

fn finish(call: &RemoveFile) -> (Next<RemoveFile>, Did) {
    if call.unmapped {
        return fail(Errno::ENOMEM);
    }
    (Next::Done(Ret::Ok(0)), Did::Return(Ret::Ok(0)))
}

fn fail(errno: Errno) -> (Next<RemoveFile>, Did) {
    (Next::Done(Ret::Err(errno)), Did::Return(Ret::Err(errno)))
}
