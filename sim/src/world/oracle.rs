//! The oracles: what every run is held to, whatever the scenario says. Owns the record of
//! what has really happened to each page; looks at the kernel, never changes it.

use core::hash::{Hash, Hasher};

use shims::{Addr, Features, RegisterModes, Span};

use super::kin::BESIDE;
use super::memory::{Loss, Memory};
use super::program::{Check, ContentClass, Control, Op, Setup};
use super::subject::{Claim, Restored, Standing, Subject};
use super::{Failure, Stuck, World, page_index};
use crate::Content;
use crate::copy::copy_by_field;
use crate::kernel::{Did, HugeDid, PAGE, Pte, Sleep};

/// What has happened to one page.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct PageTruth {
    /// The number of the page of the source that is mapped here, plus one; 0 for none.
    image: u32,
    /// It was removed, mapped or not: its source bytes are gone for ever.
    removed: bool,
    /// Removals under way that cover it. Each may take effect at any moment between its
    /// call and its return.
    removing: u8,
    /// A removal of it was under way at some moment since a snapshot was asked for. What
    /// the snapshot says of it was true at some moment, and may not be any more.
    disturbed: bool,
    /// It was written since the last baseline saved its bytes, and not removed since.
    written: bool,
    /// It was, before the one whose bytes are being saved; kept only where that may be cancelled.
    saved: bool,
    /// A removal of it failed after it may have been announced: it was removed or not, and
    /// a handler that read the announcement cannot know.
    unsure: bool,
}

/// What has happened to every page.
#[derive(PartialEq, Eq, Hash, Debug)]
pub(super) struct Truth {
    pages: Vec<PageTruth>,
    /// The bytes of a baseline are being saved.
    saving: bool,
}

copy_by_field! {
    Truth copies { pages, saving }
}

impl Truth {
    /// The pages of a world, and the room behind them where nothing is yet.
    pub(super) fn new(setup: &Setup) -> Truth {
        let image = |page: u64| if page < setup.pages { page as u32 + 1 } else { 0 };
        // Where nobody is asked for what is missing, a hole of the file becomes zeros.
        let unsure = !setup.modes.contains(RegisterModes::MISSING) && !setup.filled;
        let truth = |page| PageTruth { image: image(page), unsure, ..PageTruth::default() };
        Truth { pages: (0..setup.slots()).map(truth).collect(), saving: false }
    }

    /// The hash of what an oracle may yet ask for. `asked`: a snapshot was asked for and is not
    /// taken; until then nobody looks at what was disturbed, and it begins anew with the next.
    pub(super) fn hash_asked<H: Hasher>(&self, asked: bool, writes: bool, state: &mut H) {
        for page in &self.pages {
            let PageTruth { image, removed, removing, disturbed, written, saved, unsure } = page;
            (image, removed, removing, unsure).hash(state);
            (asked && *disturbed, writes && *written, saved).hash(state);
        }
        self.saving.hash(state);
    }

    /// The page of the source that is at this place.
    fn image(&self, at: u64) -> Option<u64> {
        u64::from(self.of(at).image).checked_sub(1)
    }

    /// What is true of a child's pages when they are copied. Removals that are under way have
    /// taken effect or not.
    pub(super) fn forked(&self) -> Truth {
        let mut child = self.clone();
        child.saving = false;
        for page in &mut child.pages {
            page.unsure |= core::mem::take(&mut page.removing) > 0;
        }
        child
    }

    /// It cannot be known of these pages whether they were removed.
    pub(super) fn doubt(&mut self, span: Span) {
        self.span(span).for_each(|page| page.unsure = true);
    }

    /// The pages of `span` have moved to `to`. Removals stay with the addresses they name, and
    /// reach what is there when they take effect.
    pub(super) fn relocate(&mut self, span: Span, to: u64, dontunmap: bool) {
        let from = page_index(span.start).unwrap_or(0) as usize;
        let end = span.end().and_then(page_index).unwrap_or(0) as usize;
        let count = end.saturating_sub(from);
        let Some(moved) = self.pages.get(from..from + count) else { return };
        let moved = moved.to_vec();
        for page in &mut self.pages[from..from + count] {
            // What stays behind, if it does, reads as zeros.
            let left = PageTruth { removed: dontunmap, ..PageTruth::default() };
            *page = PageTruth { removing: page.removing, unsure: true, ..left };
        }
        for (page, was) in self.pages.iter_mut().skip(to as usize).zip(moved) {
            let unsure = was.unsure || was.removing > 0 || page.removing > 0;
            *page = PageTruth { removing: page.removing, unsure, ..was };
        }
    }

    fn span(&mut self, span: Span) -> impl Iterator<Item = &mut PageTruth> {
        let start = page_index(span.start).unwrap_or(0) as usize;
        let end = span.end().and_then(page_index).unwrap_or(0) as usize;
        let end = end.min(self.pages.len());
        self.pages[start.min(end)..end].iter_mut()
    }

    pub(super) fn begin_remove(&mut self, span: Span) {
        for page in self.span(span) {
            page.removing += 1;
            page.disturbed = true;
        }
    }

    /// A snapshot was asked for.
    pub(super) fn begin_snapshot(&mut self) {
        for page in &mut self.pages {
            page.disturbed = page.removing > 0;
        }
    }

    /// The call has returned: from now on nobody may see what was there before it.
    /// One that failed promises nothing: what it zapped is known already.
    /// One that reverts its pages has made them what they were at first.
    pub(super) fn end_remove(&mut self, span: Span, succeeded: bool, reverts: bool) {
        for page in self.span(span) {
            page.removing -= 1;
            page.removed |= succeeded && !reverts;
            page.unsure |= !succeeded;
        }
    }

    /// These pages have left their file. Who is not told cannot know.
    pub(super) fn dropped(&mut self, span: Span, told: bool) {
        for page in self.span(span) {
            page.removed |= told;
            page.unsure |= !told;
            (page.written, page.saved) = (false, false);
        }
    }

    /// A task has written to `page`. While its bytes are being saved that must not happen,
    /// unless nobody can know whether it is there.
    fn wrote(&mut self, page: u64) -> Option<Failure> {
        let truth = self.pages.get_mut(page as usize)?;
        truth.written = true;
        let torn = self.saving && !truth.removed && truth.removing == 0 && !truth.unsure;
        torn.then_some(Failure::Unseen { page, snapshot: true })
    }

    /// The baseline was taken.
    pub(super) fn saved(&mut self) {
        self.saving = false;
        self.pages.iter_mut().for_each(|page| page.saved = false);
    }

    /// It was given up: what was written before it is saved nowhere.
    pub(super) fn cancelled(&mut self) {
        self.saving = false;
        for page in &mut self.pages {
            page.written |= core::mem::take(&mut page.saved);
        }
    }

    fn of(&self, page: u64) -> PageTruth {
        self.pages.get(page as usize).copied().unwrap_or_default()
    }

    /// May page `page` hold `content` now?
    fn check(&self, page: u64, content: Content) -> Option<Failure> {
        let truth = self.of(page);
        match content {
            Content::Source { page: from, .. } if from + 1 != truth.image => {
                Some(Failure::Misplaced { page, content })
            }
            Content::Source { .. } if truth.removed => Some(Failure::Stale { page, content }),
            Content::Zero if !truth.removed && truth.removing == 0 && !truth.unsure => {
                Some(Failure::Lost { page })
            }
            _ => None,
        }
    }
}

impl<S: Subject> World<S> {
    /// Was this page removed, or may it have been?
    pub(super) fn was_removed(&self, page: u64) -> bool {
        let truth = self.truth.of(page);
        truth.removed || truth.removing > 0 || truth.unsure
    }

    /// Is a removal of this page under way, between its call and its return?
    pub fn is_being_removed(&self, page: u64) -> bool {
        self.truth.of(page).removing > 0
    }

    /// Look at what a task's step did.
    pub(super) fn observe(&mut self, process: usize, did: &Did) {
        let failure = match did {
            Did::Load { page, content } | Did::Populated { page, content } => {
                let truth = self.truth_of(process);
                let failure = page_index(*page).and_then(|page| truth.check(page, *content));
                if process == BESIDE {
                    self.made_beside(*page, *content);
                    None
                } else {
                    failure
                }
            }
            Did::Huge { page, what: HugeDid::Zap } => {
                for i in 0..512 {
                    let zapped = page.raw() + i * PAGE.bytes();
                    self.observe(
                        process,
                        &Did::Zap { page: Addr::new(zapped), content: Content::Zero },
                    );
                }
                None
            }
            Did::Zap { page, .. } => {
                // The bytes are gone from this moment, before the call returns: whoever
                // installs source bytes from here on installs stale ones.
                let loss = self.place.memory.loss();
                if loss != Loss::Nothing
                    && let Some(page) = page_index(*page)
                    && let Some(truth) = self.truth_mut(process).pages.get_mut(page as usize)
                {
                    truth.removed |= loss == Loss::Gone;
                    (truth.written, truth.saved) = (false, false);
                }
                None
            }
            Did::Store { page, .. } => {
                // What is written beside is nobody's to see.
                let page = page_index(*page).filter(|_| process != BESIDE);
                page.and_then(|page| self.truth_mut(process).wrote(page))
            }
            _ => None,
        };

        if let Some(failure) = failure {
            self.fail(failure);
        }
    }

    /// A process that nobody watches has touched a page of the file: if it was not there, it is
    /// zeros now, and stays.
    #[cold]
    fn made_beside(&mut self, page: Addr, content: Content) {
        if content == Content::Zero
            && let Some(page) = page_index(page)
            && let Some(truth) = self.truth.pages.get_mut(page as usize)
        {
            truth.unsure = true;
        }
    }

    /// The snapshot that was just taken must say what a reader would find, wherever nobody
    /// removed pages meanwhile: a snapshot is of a paused process.
    pub(super) fn check_snapshot(&mut self) {
        for at in 0..self.setup.slots() {
            let Some(page) = self.truth.image(at) else { continue };
            let Some(claim) = self.subject.snapshot(page) else { return };
            if self.truth.of(at).disturbed {
                continue;
            }
            let failure = self.agree(0, at, claim, true);
            if let Some(failure) = failure.or_else(|| self.misrestored(at, page)) {
                self.fail(failure);
                return;
            }
        }
    }

    /// Would whoever restores the snapshot find what a reader finds here now?
    fn misrestored(&self, at: u64, page: u64) -> Option<Failure> {
        let (truth, addr) = (self.truth.of(at), self.setup.addr(at));
        let watched = self.kernel.space(self.mm).find(addr).is_some_and(|vma| vma.uffd().is_some());
        let own = matches!(self.place.memory, Memory::Anon | Memory::HugetlbPrivate);
        if truth.removing > 0 || truth.unsure || !watched || !own {
            return None;
        }
        let content = match self.kernel.table(self.mm).get(addr.raw() >> 12) {
            Pte::Present { content, .. } => content,
            Pte::None if truth.removed => Content::Zero,
            Pte::None => Content::Source { page: page as u32, version: 0 },
            Pte::Marker(_) => return None,
        };
        let restored = self.subject.restores(page)?;
        let fits = match restored {
            Restored::Saved => true,
            Restored::Zeros => content == Content::Zero,
            Restored::Source => matches!(content, Content::Source { .. }),
        };
        (!fits).then_some(Failure::Misrestored { page, restored, content })
    }

    /// The bytes of the pages that the snapshot calls dirty were saved: it must call every
    /// page so that was written.
    pub(super) fn check_export(&mut self) {
        self.check_snapshot();
        self.truth.saving = true;
        let mut ops = self.setup.programs.iter().flat_map(|program| &program.ops);
        let cancels = ops.any(|op| matches!(op, Op::Control(Control::Cancel)));
        for at in 0..self.setup.slots() {
            let Some(page) = self.truth.image(at) else { continue };
            let seen = self.subject.snapshot_dirty(page).unwrap_or(false)
                || self.subject.snapshot(page) == Some(Claim::Maybe);
            if let Some(failure) = self.unseen(0, at, seen, true) {
                self.fail(failure);
            }
            if let Some(truth) = self.truth.pages.get_mut(at as usize) {
                truth.saved = cancels && truth.written;
                truth.written = false;
            }
        }
    }

    /// A page that was written and not removed must be called so, if writes are tracked.
    fn unseen(&self, process: usize, page: u64, seen: bool, snapshot: bool) -> Option<Failure> {
        let truth = self.truth_of(process).of(page);
        let excused = seen || !truth.written || truth.removing > 0 || truth.unsure;
        (self.setup.tracks_writes() && !excused).then_some(Failure::Unseen { page, snapshot })
    }

    fn agree(&self, process: usize, page: u64, claim: Claim, snapshot: bool) -> Option<Failure> {
        let mm = self.mm_of(process);
        let present = self.setup.is_there(&self.kernel, mm, page);
        let fits = match claim {
            // A file can have pages that the handler has not put there.
            Claim::Absent | Claim::Removed => !present || self.others_fill(),
            Claim::Present => present,
            // An honest answer: the address space was changing when the kernel was asked.
            Claim::Maybe => true,
        };
        if fits {
            return None;
        }
        // A removal that is under way may be on either side of its zap, one that failed may
        // have been announced or not; memory that left the registration is nobody's claim.
        let truth = self.truth_of(process).of(page);
        let watched = || {
            let vma = self.kernel.space(mm).find(self.setup.addr(page));
            vma.is_some_and(|vma| vma.uffd().is_some())
        };
        let certain = truth.removing == 0 && !truth.unsure && watched();
        certain.then_some(Failure::Disagreement { page, claim, present, snapshot })
    }

    /// Is there anybody else who puts pages into the file behind the memory?
    fn others_fill(&self) -> bool {
        let asked = self.setup.modes.contains(RegisterModes::MISSING);
        self.place.memory.is_shared() && (!asked || self.setup.filled || self.beside.is_some())
    }

    /// The judgement when nobody can move any more.
    pub(super) fn judge(&self) -> Option<Failure> {
        if self.is_dead() {
            return self.judge_survivor();
        }
        let failed_on_purpose =
            self.setup.finally.iter().any(|finally| finally.check == Check::HandlerFailed);
        let standing = self.subject.standing();
        if let Standing::Failed(why) = &standing
            && !failed_on_purpose
        {
            return Some(Failure::HandlerFailed { why: why.clone() });
        }
        if let Some(failure) = self.judge_stopped() {
            return Some(failure);
        }
        // Nobody reads what was not read when the handler was asked to stop.
        let failed_on_purpose = failed_on_purpose || self.is_stopped();
        let stuck = self.stuck(failed_on_purpose);
        if !stuck.is_empty() {
            let mut stuck = stuck;
            stuck.extend(self.subject.whereabouts().into_iter().map(Stuck::standing));
            return Some(Failure::Hang(stuck));
        }
        let faults = self.subject.outstanding();
        if faults > 0 {
            return Some(Failure::Unresolved { faults });
        }
        let ctxs = (0..self.processes()).filter_map(|process| self.ctx_of(process));
        let changing = ctxs.map(|ctx| self.kernel.ctx(ctx).changing()).max().unwrap_or(0);
        if changing > 0 && !failed_on_purpose {
            return Some(Failure::StillChanging { changing });
        }
        for process in 0..self.processes() {
            if let Some(failure) = self.judge_process(process) {
                return Some(failure);
            }
        }
        if self.is_stopped() {
            return None;
        }
        self.setup.finally.iter().find_map(|finally| {
            let got = self.violates(&finally.check)?;
            Some(Failure::Finally { line: finally.line, expected: finally.check.to_string(), got })
        })
    }

    /// The memory of a process, and what the handler says of it.
    fn judge_process(&self, process: usize) -> Option<Failure> {
        let (mm, truth) = (self.mm_of(process), self.truth_of(process));
        let told = self.setup.features.contains(Features::EVENT_UNMAP | Features::EVENT_REMAP);
        let tracks_writes = self.setup.tracks_writes();
        for at in 0..self.setup.slots() {
            let vpn = self.setup.addr(at).raw() >> 12;
            if let Pte::Present { content, .. } = self.kernel.table(mm).get(vpn)
                && let Some(failure) = truth.check(at, content)
            {
                return Some(failure);
            }
            if told && let Some(failure) = self.misled(process, at) {
                return Some(failure);
            }
            let Some(page) = truth.image(at) else { continue };
            let kin = self.ctx_of(process).filter(|_| process > 0);
            let claim = match kin {
                Some(ctx) => self.subject.claim_of(ctx, page).0,
                None if process > 0 => continue,
                None => self.subject.claim(page),
            };
            if let Some(failure) = self.agree(process, at, claim, false) {
                return Some(failure);
            }
            if !tracks_writes {
                continue;
            }
            let (dirty, gone) = match kin {
                Some(ctx) => (self.subject.claim_of(ctx, page).1, true),
                None => {
                    let state = self.subject.state_name(page);
                    (self.subject.dirty(page), state == "removed" || state == "missing")
                }
            };
            // An install that straddles a removal is in doubt, and a snapshot asks about it.
            let doubt = claim == Claim::Maybe && gone;
            if let Some(failure) = self.unseen(process, at, doubt || dirty, false) {
                return Some(failure);
            }
        }
        None
    }

    /// Does the handler look for the right page at this place? Only where it is told of every
    /// change: what it is not told of, it cannot follow.
    fn misled(&self, process: usize, at: u64) -> Option<Failure> {
        let ctx = self.ctx_of(process)?;
        if self.kernel.ctx(ctx).is_closed() || self.is_stopped() {
            return None;
        }
        let known = |page: &u64| *page < self.setup.pages;
        let thinks = self.subject.page_at(ctx, self.setup.addr(at))?;
        let vma = self.kernel.space(self.mm_of(process)).find(self.setup.addr(at));
        let watched = vma.is_some_and(|vma| vma.uffd().is_some());
        let is = self.truth_of(process).image(at).filter(|_| watched);
        let right = thinks.filter(known) == is && (is.is_some() || thinks.is_some() == watched);
        // What left the registration without a message is nobody's claim.
        let unregistered = vma.is_some() && !watched;
        (!right && !unregistered).then_some(Failure::Misled { at, thinks, is })
    }

    /// The tasks that have not come to their end. A handler that fails on purpose may leave
    /// faults unread, but none that it took.
    fn stuck(&self, failed_on_purpose: bool) -> Vec<Stuck> {
        let mut stuck = Vec::new();
        for (i, task) in self.tasks.iter().enumerate() {
            let program = &self.setup.programs[i];
            if !task.born || (self.kernel.idle(task.thread) && task.at == program.ops.len()) {
                continue;
            }
            let sleep = self.kernel.sleep(task.thread);
            let excused = match sleep {
                Some(Sleep::Fault { taken, .. }) => !taken,
                _ => true,
            };
            if failed_on_purpose && excused {
                continue;
            }
            let handler = match sleep {
                Some(Sleep::Fault { addr, .. }) => page_index(addr)
                    .filter(|_| task.process == 0)
                    .and_then(|at| self.truth.image(at))
                    .map(|page| self.subject.state_name(page)),
                _ => None,
            };
            stuck.push(Stuck { task: program.name.clone(), sleep, handler, stands: None });
        }
        stuck
    }

    /// What is the case instead, if `check` does not hold.
    fn violates(&self, check: &Check) -> Option<String> {
        let pte = |page: &u64| self.kernel.table(self.mm).get(self.setup.addr(*page).raw() >> 12);
        match check {
            Check::Holds(page, class) => match pte(page) {
                Pte::None | Pte::Marker(_) => Some(format!("page {page} is absent")),
                Pte::Present { content, .. } => {
                    (ContentClass::of(content, self.truth.image(*page).unwrap_or(u64::MAX))
                        != Some(*class))
                    .then(|| format!("page {page} holds {content}"))
                }
            },
            Check::Absent(page) => match pte(page) {
                Pte::None | Pte::Marker(_) => None,
                Pte::Present { content, .. } => Some(format!("page {page} holds {content}")),
            },
            Check::State(page, name) => {
                let got = self.subject.state_name(*page);
                (got != name).then(|| format!("the handler holds page {page} for {got}"))
            }
            Check::HandlerFailed => match self.subject.standing() {
                Standing::Failed(_) => None,
                standing => Some(format!("the handler is {standing:?}")),
            },
        }
    }
}

impl core::fmt::Display for Check {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Check::Holds(page, class) => write!(f, "page {page} {class}"),
            Check::Absent(page) => write!(f, "page {page} absent"),
            Check::State(page, name) => write!(f, "state {page} {name}"),
            Check::HandlerFailed => write!(f, "handler failed"),
        }
    }
}
