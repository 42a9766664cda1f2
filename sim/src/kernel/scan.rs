//! `PAGEMAP_SCAN`: which pages of a range match a filter, and the atomic exchange of "written"
//! for "protected" that dirty tracking is made of (rule f5). Owns the filter, the regions and
//! the protecting; what `pagemap` shows of one page is in `pagemap.rs`.
//!
//! A step is what Linux does under one page-table lock: the pages of one VMA that share a
//! page table. Between two steps other threads write; the mappings stay as they are.
//!
//! # Divergence from Linux
//!
//! - In memory that is not registered for `WP` an absent page counts as written if it has a
//!   page table, and there is no telling here whether an empty one is still around: such a
//!   page counts if its block of 2 MiB has any entry.
//! - hugetlb in the range is [`ENOTMODELLED`](shims::Errno::ENOTMODELLED).
//! - The regions are handed over as a whole, so none can be unwritable.

use bitflags::bitflags;
use shims::{Addr, Errno, Features, RegisterModes, Span};

use super::call::{MmId, Ret, ThreadId};
use super::did::Did;
use super::page_table::{Marker, PageTable, Pte, PteBits, Vpn};
use super::resolve::TASK_SIZE;
use super::run::{Next, Run};
use super::thp::UNIT;
use super::{Aside, Kernel, PAGE, page_addr, page_of};
use crate::vma::Vma;

bitflags! {
    /// What a scan knows of a page.
    #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
    pub struct PageIs: u64 {
        /// In memory that is registered for `WP` with `WP_ASYNC`.
        const WPALLOWED = 1 << 0;
        /// Not write-protected: it was written, or zapped, since it was.
        const WRITTEN = 1 << 1;
        /// A page of a file, or of shared memory.
        const FILE = 1 << 2;
        /// A page is mapped.
        const PRESENT = 1 << 3;
        /// A marker, or a page that was swapped out.
        const SWAPPED = 1 << 4;
        /// The zero page.
        const PFNZERO = 1 << 5;
        /// Part of a huge page.
        const HUGE = 1 << 6;
        /// Written since the soft-dirty bits were cleared; never set here.
        const SOFT_DIRTY = 1 << 7;
        /// A guard (6.15 and later).
        const GUARD = 1 << 8;
    }

    /// The flags of a scan.
    #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
    pub struct ScanFlags: u64 {
        /// Protect every page that matches, in the same moment.
        const WP_MATCHING = 1 << 0;
        /// Refuse memory that is not registered for `WP` with `WP_ASYNC`.
        const CHECK_WPASYNC = 1 << 1;
        const _ = !0;
    }
}

/// The arguments of a scan.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct PagemapScan {
    /// What to do besides looking.
    pub flags: ScanFlags,
    /// Where. The end is rounded up.
    pub range: Span,
    /// How many regions there is room for; none is no vector, and no limit.
    pub room: u64,
    /// At most so many pages; 0 is no limit. Without effect if there is no vector.
    pub max_pages: u64,
    /// These categories count as given where they are not.
    pub inverted: PageIs,
    /// A page matches if it has all of these,
    pub all: PageIs,
    /// and, unless this is empty, one of these.
    pub any: PageIs,
    /// The categories that regions tell, and are kept apart by.
    pub tell: PageIs,
}

/// Neighbouring pages that match and are alike.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Region {
    /// Where.
    pub span: Span,
    /// The categories that were asked for.
    pub is: PageIs,
}

/// What a scan writes into its caller's memory.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Scanned {
    /// What was found, ascending.
    pub regions: Vec<Region>,
    /// How far it has come: the page that no longer fitted, or the end.
    pub walk_end: Addr,
}

/// A scan under way.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct ScanRun {
    ask: PagemapScan,
    next: Vpn,
    end: Vpn,
    pages: u64,
    regions: Vec<Region>,
    locked: bool,
}

/// Pages that share a page table.
const TABLE: u64 = UNIT;

impl Kernel {
    /// The output of the last scan by `thread`, if it was not taken yet. A scan that a VMA
    /// has refused writes how far it would have gone, and no region.
    pub fn take_scan(&mut self, thread: ThreadId) -> Option<Scanned> {
        let is_scan =
            |(of, aside): &(ThreadId, Aside)| *of == thread && matches!(aside, Aside::Scanned(_));
        let at = self.asides.iter().position(is_scan)?;
        match self.asides.remove(at) {
            (_, Aside::Scanned(scanned)) => Some(scanned),
            (_, Aside::Batch(_) | Aside::Gap(_) | Aside::FaultIn(_)) => {
                unreachable!("it was a scan")
            }
        }
    }

    /// The check of the arguments. The lengths of the caller's structs cannot be wrong here.
    pub(super) fn begin_scan(ask: PagemapScan) -> Run {
        let fail = |errno| Run::Done(Ret::Err(errno));
        let known = ScanFlags::WP_MATCHING | ScanFlags::CHECK_WPASYNC;
        if !known.contains(ask.flags) || !ask.range.start.is_aligned(PAGE) {
            return fail(Errno::EINVAL);
        }
        let words = [ask.inverted, ask.all, ask.any, ask.tell];
        if words.iter().any(|word| !PageIs::all().contains(*word)) {
            return fail(Errno::EINVAL);
        }
        let (start, len) = (ask.range.start.raw(), ask.range.len.bytes());
        let Some(end) = start.checked_add(len).filter(|end| *end <= TASK_SIZE) else {
            return fail(Errno::EFAULT);
        };
        let end = end.div_ceil(PAGE.bytes());
        let next = page_of(ask.range.start);
        Run::Scan(Box::new(ScanRun {
            ask,
            next,
            end,
            pages: 0,
            regions: Vec::new(),
            locked: false,
        }))
    }

    pub(super) fn step_scan(
        &mut self,
        thread: ThreadId,
        mm: MmId,
        mut run: Box<ScanRun>,
    ) -> (Next<Box<ScanRun>>, Did) {
        let first = run.next;
        let part = loop {
            let vma = self.space(mm).find_next(page_addr(run.next)).copied();
            // A mapping that was passed over may reach beyond the range.
            let in_range = |vma: &Vma| run.next < run.end && page_of(vma.start()) < run.end;
            let Some(vma) = vma.filter(in_range) else { break None };
            let from = page_of(vma.start()).max(run.next);
            let to = page_of(vma.end()).min(run.end);
            let is_async = self.wp_async(&vma);
            if vma.page_size() != PAGE {
                return self.scanned(thread, mm, *run, Ret::Err(Errno::ENOTMODELLED));
            }
            if run.ask.flags.contains(ScanFlags::CHECK_WPASYNC) && !is_async {
                run.regions.clear();
                run.next = run.end;
                return self.scanned(thread, mm, *run, Ret::Err(Errno::EPERM));
            }
            if run.ask.flags.contains(ScanFlags::WP_MATCHING) && !is_async {
                // Without the check it is passed over, whatever is in it.
                run.next = to;
                continue;
            }
            let table_end = (from / TABLE + 1) * TABLE;
            break Some((vma, from, to.min(table_end)));
        };
        let Some((vma, from, to)) = part else {
            run.next = run.end;
            let ret = Ret::Ok(run.regions.len() as u64);
            return self.scanned(thread, mm, *run, ret);
        };
        let (stopped, protected) = self.scan_table(mm, &vma, &mut run, from, to);
        if stopped || run.next == run.end {
            let ret = Ret::Ok(run.regions.len() as u64);
            return self.scanned(thread, mm, *run, ret);
        }
        if !core::mem::replace(&mut run.locked, true) {
            self.mm(mm).readers += 1;
        }
        (Next::At(run), Did::Scan { page: page_addr(first), protected })
    }

    /// The pages `[from, to)` of `vma`, which have one page table. Did something not fit any
    /// more, and how many pages were protected?
    fn scan_table(
        &mut self,
        mm: MmId,
        vma: &Vma,
        run: &mut ScanRun,
        from: Vpn,
        to: Vpn,
    ) -> (bool, u32) {
        let is_async = self.wp_async(vma);
        let registered = vma.uffd_modes().contains(RegisterModes::WP);
        let guards = self.profile.guard.in_pagemap;
        let block = from / TABLE * TABLE;
        let mm = self.mm(mm);
        let huge = mm.unit_of(from).is_some();
        let table = &mut mm.table;
        let exists = registered || table.first_entry(block, block + TABLE).is_some();
        let mut protected = 0;
        for vpn in from..to {
            let pte = table.get(vpn);
            let mut is = categories(pte, exists, guards);
            is.set(PageIs::WPALLOWED, is_async);
            is.set(PageIs::HUGE, huge);
            if run.ask.matches(is) {
                if !run.tell(vpn, is) {
                    run.next = vpn;
                    mm.split_unless_whole(from, protected);
                    return (true, protected);
                }
                if run.ask.flags.contains(ScanFlags::WP_MATCHING) {
                    protected += u32::from(protect(table, vpn, pte));
                }
            }
        }
        run.next = to;
        mm.split_unless_whole(from, protected);
        (false, protected)
    }

    /// The scan is over: leave its output for the caller.
    fn scanned(
        &mut self,
        thread: ThreadId,
        mm: MmId,
        run: ScanRun,
        ret: Ret,
    ) -> (Next<Box<ScanRun>>, Did) {
        if run.locked {
            self.mm(mm).readers -= 1;
        }
        let output = Scanned { regions: run.regions, walk_end: page_addr(run.next) };
        self.take_scan(thread);
        self.asides.push((thread, Aside::Scanned(output)));
        (Next::Done(ret), Did::Return(ret))
    }

    /// Is this memory written without asking anybody, although it is watched for writes?
    pub(super) fn wp_async(&self, vma: &Vma) -> bool {
        vma.uffd_modes().contains(RegisterModes::WP)
            && vma.uffd().is_some_and(|ctx| self.ctx(ctx).features.contains(Features::WP_ASYNC))
    }
}

impl ScanRun {
    /// Does it hold the mmap lock for reading?
    pub(super) fn holds(&self) -> bool {
        self.locked
    }
}

impl PagemapScan {
    fn matches(&self, is: PageIs) -> bool {
        let seen = is ^ self.inverted;
        seen.contains(self.all) && (self.any.is_empty() || seen.intersects(self.any))
    }
}

impl ScanRun {
    /// Add a page that matches; false if there is no room for it.
    fn tell(&mut self, vpn: Vpn, is: PageIs) -> bool {
        let is = is & self.ask.tell;
        if self.ask.room == 0 || self.ask.tell.is_empty() {
            return true;
        }
        if self.ask.max_pages > 0 && self.pages == self.ask.max_pages {
            return false;
        }
        let page = page_addr(vpn);
        let end = page_addr(vpn + 1);
        let full = self.regions.len() as u64 == self.ask.room;
        match self.regions.last_mut() {
            Some(last) if last.is == is && last.span.end() == Some(page) => {
                last.span = Span::between(last.span.start, end).expect("it grows upward");
            }
            _ if full => return false,
            _ => {
                let span = Span::between(page, end).expect("a page ascends");
                self.regions.push(Region { span, is });
            }
        }
        self.pages += 1;
        true
    }
}

/// What an entry is. `exists`: an absent page counts as written.
fn categories(pte: Pte, exists: bool, guards: bool) -> PageIs {
    match pte {
        Pte::None if exists => PageIs::WRITTEN,
        Pte::None => PageIs::empty(),
        Pte::Present { bits, .. } => {
            let mut is = PageIs::PRESENT;
            is.set(PageIs::WRITTEN, !bits.contains(PteBits::UFFD_WP));
            is.set(PageIs::FILE, bits.contains(PteBits::CACHED));
            is.set(PageIs::PFNZERO, bits.contains(PteBits::ZERO_PAGE));
            is
        }
        Pte::Marker(marker) => {
            let mut is = PageIs::SWAPPED;
            is.set(PageIs::WRITTEN, !marker.is_protected());
            is.set(PageIs::GUARD, guards && marker.is_guard());
            is
        }
    }
}

/// Protect one page; true if it was not. Unlike `WRITEPROTECT` this marks poison and guards
/// too, to no other effect than that they no longer count as written (measured).
fn protect(table: &mut PageTable, vpn: Vpn, pte: Pte) -> bool {
    let after = match pte {
        Pte::None => Pte::Marker(Marker::WriteProtect),
        Pte::Present { content, bits } => Pte::Present { content, bits: bits | PteBits::PROTECTED },
        Pte::Marker(Marker::Poison) => Pte::Marker(Marker::PoisonScanned),
        Pte::Marker(Marker::Guard) => Pte::Marker(Marker::GuardScanned),
        Pte::Marker(_) => pte,
    };
    table.set(vpn, after) != after
}
