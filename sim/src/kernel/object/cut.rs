//! Taking pages out of a memory file: `ftruncate` and `fallocate(PUNCH_HOLE)`, which nobody
//! is told of (rules d13, f3). Owns the steps, and those of `MADV_REMOVE` behind its event.
//!
//! A page leaves the cache and all mappings in one step, and another thread can look between
//! two pages. On Linux the mappings go first; an access meanwhile waits for the end of the
//! hole, so it cannot tell. A pass over a file of small pages that has found something is
//! followed by another one: what was installed behind the first goes as well (rule d13).

use shims::Errno;

use super::super::Kernel;
use super::super::call::{Call, Ret};
use super::super::did::Did;
use super::super::page_table::{Marker, Pte, PteBits};
use super::super::run::{Next, Run};
use super::super::{PAGE, page_of};
use super::Index;
use super::map::{keeps_markers, shows};
use crate::vma::{FileId, Vma};

/// Pages `[next, end)` of a file on their way out.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Cut {
    file: FileId,
    /// Where the pass began that is under way.
    start: Index,
    next: Index,
    end: Index,
    /// The file has become shorter.
    shorter: bool,
}

impl Cut {
    /// A hole; what is private stays.
    pub(super) fn hole(file: FileId, start: Index, end: Index) -> Cut {
        Cut { file, start, next: start, end, shorter: false }
    }

    /// How many base pages it covers.
    pub(super) fn pages(&self) -> u64 {
        self.end - self.next
    }
}

impl Kernel {
    /// The first step of a call that changes a file.
    pub(in crate::kernel) fn cut_file(&mut self, call: &Call) -> (Run, Did) {
        let result = match *call {
            Call::Ftruncate { file, size } => self.truncate(file, size),
            Call::Punch { file, start, len } => self.punch(file, start, len),
            _ => unreachable!("{call:?} cuts no file"),
        };
        match result {
            Ok(Some(cut)) => {
                (Run::Cut(Box::new(cut)), Did::Resize { size: self.backer(cut.file).size })
            }
            Ok(None) => done(Ret::Ok(0)),
            Err(errno) => done(Ret::Err(errno)),
        }
    }

    /// `ftruncate`: from now on nothing beyond the new end can be had; what is mapped there
    /// goes page by page.
    fn truncate(&mut self, file: FileId, size: u64) -> Result<Option<Cut>, Errno> {
        let object = self.object(file).ok_or(Errno::EBADF)?;
        if !size.is_multiple_of(PAGE.bytes()) && object.page_size() == PAGE {
            // It would clear the rest of a page, and a page has one content here.
            return Err(Errno::ENOTMODELLED);
        }
        if !size.is_multiple_of(object.page_size().bytes()) {
            return Err(Errno::EINVAL);
        }
        // Measured: what lies beyond goes from hugetlb even where the file gets longer.
        let cuts = size < object.size() || object.page_size() != PAGE;
        let next = size / PAGE.bytes();
        let object = self.backer_mut(file);
        object.size = size;
        if cuts {
            object.promised.split_off(&next);
        }
        Ok(cuts.then_some(Cut { file, start: next, next, end: Index::MAX, shorter: true }))
    }

    /// `fallocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)`.
    fn punch(&mut self, file: FileId, start: u64, len: u64) -> Result<Option<Cut>, Errno> {
        let object = self.object(file).ok_or(Errno::EBADF)?;
        if len == 0 {
            return Err(Errno::EINVAL);
        }
        let end = start.checked_add(len).filter(|end| i64::try_from(*end).is_ok());
        let end = end.ok_or(Errno::EFBIG)?;
        let page = object.page_size().bytes();
        if !start.is_multiple_of(page) || !end.is_multiple_of(page) {
            // It would clear parts of pages, and a page has one content here.
            return Err(Errno::ENOTMODELLED);
        }
        let (next, end) = (start / PAGE.bytes(), end / PAGE.bytes());
        Ok(Some(Cut::hole(file, next, end)))
    }

    /// The next page goes.
    pub(in crate::kernel) fn step_cut(&mut self, cut: Cut) -> (Next<Cut>, Did) {
        let again = self.backer(cut.file).page_size() == PAGE && cut.next > cut.start;
        let found = self
            .next_to_cut(&cut)
            .or_else(|| again.then(|| self.next_to_cut(&Cut { next: cut.start, ..cut })).flatten());
        let Some(index) = found else {
            return (Next::Done(Ret::Ok(0)), Did::Return(Ret::Ok(0)));
        };
        let content = self.drop_index(cut.file, index, cut.shorter);
        let next = Cut { next: index + 1, ..cut };
        (Next::At(next), Did::Drop { index, content })
    }

    /// The lowest page that is cached or mapped.
    fn next_to_cut(&self, cut: &Cut) -> Option<Index> {
        let object = self.backer(cut.file);
        let mut first = object.pages.range(cut.next..cut.end).next().map(|(index, _)| *index);
        for mm in &self.mms {
            for vma in mm.space.iter().filter(|vma| shows(vma, cut.file)) {
                let from = cut.next.max(vma.pgoff());
                let pages = page_of(vma.end()) - page_of(vma.start());
                let to = cut.end.min(first.unwrap_or(Index::MAX)).min(vma.pgoff() + pages);
                if from >= to {
                    continue;
                }
                let base = page_of(vma.start());
                let (start, end) = (base + (from - vma.pgoff()), base + (to - vma.pgoff()));
                let goes = |pte| without_page(vma, pte, cut.shorter) != pte;
                let found = mm.table.entries_in(start, end).find(|(_, pte)| goes(*pte));
                first = found.map(|(vpn, _)| vpn - base + vma.pgoff()).or(first);
            }
        }
        first
    }

    /// Page `index` leaves the cache and every mapping. Returns what the cache held.
    fn drop_index(&mut self, file: FileId, index: Index, shorter: bool) -> Option<crate::Content> {
        self.break_block(file, index);
        self.each_mapping(file, index, |vma, table, vpn| {
            let before = table.get(vpn);
            let after = without_page(vma, before, shorter);
            if after != before {
                table.set(vpn, after);
            }
        });
        let object = self.backer_mut(file);
        let content = object.pages.remove(&index);
        if content.is_some() {
            // A page that was taken was no longer promised; one that never came still is.
            object.promised.remove(&index);
        }
        content
    }
}

/// What is left of an entry whose page goes (measured, all of it).
///
/// In tmpfs a private copy outlives a hole, as a poisoned page does, but not the end of the
/// file; the shared zero page is nobody's copy. hugetlb makes no exceptions: a hole leaves the
/// protection behind, a shorter file nothing.
fn without_page(vma: &Vma, pte: Pte, shorter: bool) -> Pte {
    let huge = vma.page_size() != PAGE;
    let goes = match pte {
        Pte::Present { bits, .. } => bits.intersects(PteBits::CACHED | PteBits::ZERO_PAGE),
        Pte::None | Pte::Marker(_) => false,
    };
    match pte {
        _ if huge && shorter => Pte::None,
        _ if !goes && !shorter && !huge => pte,
        Pte::Marker(Marker::WriteProtect) => pte,
        _ => pte.zapped(keeps_markers(vma)),
    }
}

fn done(ret: Ret) -> (Run, Did) {
    (Run::Done(ret), Did::Return(ret))
}
