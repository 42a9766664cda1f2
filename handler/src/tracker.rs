//! Where each page's bytes came from. Owns the page states and their transitions; never
//! says whether a page is *present*, which the kernel alone knows.
//!
//! # Transitions
//!
//! The columns are what happened, the rows what was recorded. `R` and `W` tell a read
//! fault from a write fault; `·` leaves the state alone.
//!
//! | from \ on | installed R | installed W | already there R | already there W | un-protected | poisoned | REMOVE |
//! |---|---|---|---|---|---|---|---|
//! | Missing  | Clean | Dirty | Clean | Dirty | Dirty | Poisoned | Removed |
//! | Clean    | Clean | Dirty | ·     | Dirty | Dirty | Poisoned | Removed |
//! | Dirty    | Clean\* | Dirty | ·   | ·     | ·     | Poisoned | Removed |
//! | Zero     | Zero  | Dirty | ·     | Dirty | Dirty | Poisoned | Removed |
//! | Removed  | Zero  | Dirty | Dirty | Dirty | ·     | Poisoned | Removed |
//! | Poisoned | Clean\* | Dirty | ·   | ·     | ·     | Poisoned | Removed |
//!
//! \* `Zero` once the page has been removed: an install puts zeros into such a page and
//! source bytes into any other, and the state says which.
//!
//! A baseline turns Dirty into Clean: unchanged since then. It leaves unconfirmed pages alone.
//!
//! Beside the state a page has two bits. *Removed once* is never cleared, because the
//! bytes of the source are gone for ever once the client gave the page up. *Unconfirmed*
//! says that the page may not be there although the state says so: an install of a page
//! that was removed can be wiped by a zap that is still to come (rule d8). A probe asks the
//! kernel for the sake of one snapshot; its answer holds while the client is paused, so the
//! bit stays.

use core::fmt;

use shims::PageNo;

/// What is known of a page.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum PageState {
    /// Never touched.
    Missing = 0,
    /// Installed from the source for a read, or not written since the last baseline.
    Clean = 1,
    /// Installed for a write.
    Dirty = 2,
    /// A zero page, installed for a read.
    Zero = 3,
    /// Given up by the client; reads as zeros.
    Removed = 4,
    /// Poisoned: whoever touches it gets `SIGBUS`.
    Poisoned = 5,
}

/// What an install puts into a page.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Content {
    /// The bytes of the source.
    Source,
    /// Zeros.
    Zero,
    /// Poison.
    Poison,
}

/// What a probe found.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Probed {
    /// The page was there already.
    Present,
    /// It was not, and is a zero page now.
    Absent,
}

const STATE: u8 = 0b0000_0111;
const REMOVED_ONCE: u8 = 1 << 3;
const UNCONFIRMED: u8 = 1 << 4;
/// The snapshot in preparation has asked the kernel about this page.
const PROBED: u8 = 1 << 5;
/// The baseline in preparation has protected this page, and it was not written since.
const PROTECTED: u8 = 1 << 6;

/// The client gave the page up. If the page is installed: it may be in the page cache still, as
/// it was. If it is missing: a private mapping has lost its copy, or is about to.
const MAYBE_PUNCHED: u8 = 1 << 7;

/// Pages in a chunk.
const CHUNK: u64 = 4096;

/// The states of all pages.
///
/// Sparse: memory is spent on chunks with a page that was touched, up to the last such
/// page. No page ever becomes `Missing` again, so equal contents are equal values; but for the
/// copies that a private mapping of an object gives back.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Tracker {
    /// Ascending by chunk number.
    chunks: Vec<(u64, Vec<u8>)>,
    unconfirmed: u64,
}

impl PageState {
    /// Its name, as texts and scenarios write it.
    pub const fn name(self) -> &'static str {
        match self {
            PageState::Missing => "missing",
            PageState::Clean => "clean",
            PageState::Dirty => "dirty",
            PageState::Zero => "zero",
            PageState::Removed => "removed",
            PageState::Poisoned => "poisoned",
        }
    }

    /// Does it say that a page was installed?
    pub const fn is_installed(self) -> bool {
        matches!(self, PageState::Clean | PageState::Dirty | PageState::Zero | PageState::Poisoned)
    }

    const fn from_bits(byte: u8) -> PageState {
        match byte & STATE {
            0 => PageState::Missing,
            1 => PageState::Clean,
            2 => PageState::Dirty,
            3 => PageState::Zero,
            4 => PageState::Removed,
            5 => PageState::Poisoned,
            _ => unreachable!(),
        }
    }
}

impl Tracker {
    /// A tracker in which every page is `Missing`.
    pub fn new() -> Tracker {
        Tracker::default()
    }

    /// The state of `page`.
    pub fn state(&self, page: PageNo) -> PageState {
        PageState::from_bits(self.byte(page))
    }

    /// May `page` be absent although its state says that it was installed, or partly
    /// zapped although no `REMOVE` covered all of it?
    pub fn is_unconfirmed(&self, page: PageNo) -> bool {
        self.byte(page) & UNCONFIRMED != 0
    }

    /// Was `page` ever given up by the client?
    pub fn was_removed(&self, page: PageNo) -> bool {
        self.byte(page) & REMOVED_ONCE != 0
    }

    /// What an install has to put into `page`: zeros once it has been removed, the bytes
    /// of the source otherwise; a poisoned page stays poisoned.
    pub fn content(&self, page: PageNo) -> Content {
        let byte = self.byte(page);
        if PageState::from_bits(byte) == PageState::Poisoned {
            Content::Poison
        } else if byte & REMOVED_ONCE != 0 || may_be_punched(byte) {
            // A page of an object that was filled, given up, and turns out to be absent is zeros.
            Content::Zero
        } else {
            Content::Source
        }
    }

    /// How many pages are unconfirmed.
    pub fn unconfirmed(&self) -> u64 {
        self.unconfirmed
    }

    /// The pages that are not `Missing` or are unconfirmed, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (PageNo, PageState)> {
        let known = |byte: &u8| byte & (STATE | UNCONFIRMED) != 0;
        self.chunks.iter().flat_map(move |(number, bytes)| {
            let bytes = bytes.iter().enumerate();
            bytes.filter(move |(_, byte)| known(byte)).map(move |(i, byte)| {
                (PageNo::new(number * CHUNK + i as u64), PageState::from_bits(*byte))
            })
        })
    }

    /// An install put `content` into `page`, which was absent until then.
    pub(crate) fn installed(&mut self, page: PageNo, content: Content, write: bool) {
        self.update(page, |byte| {
            let state = match (content, write) {
                (Content::Poison, _) => PageState::Poisoned,
                (_, true) => PageState::Dirty,
                (Content::Source, false) => PageState::Clean,
                (Content::Zero, false) => PageState::Zero,
            };
            // It was absent, so giving it up had taken it from its object.
            let punched = if may_be_punched(byte) { REMOVED_ONCE } else { 0 };
            installed_byte(byte & !MAYBE_PUNCHED | punched | reverted(byte), state)
        });
    }

    /// An install found `page` present.
    pub(crate) fn present(&mut self, page: PageNo, write: bool) {
        self.update(page, |byte| {
            let state = match (PageState::from_bits(byte), write) {
                (PageState::Missing, false) => PageState::Clean,
                (PageState::Removed, _) => PageState::Dirty,
                (PageState::Poisoned, _) => PageState::Poisoned,
                (_, true) => PageState::Dirty,
                (state, false) => state,
            };
            let kept = if may_be_punched(byte) { MAYBE_PUNCHED } else { 0 };
            installed_byte(byte & !MAYBE_PUNCHED | kept | reverted(byte), state)
        });
    }

    /// `page` was un-protected for a write that had found it there. A page that was given up
    /// since is not there for that (it may be, if giving it up failed).
    pub(crate) fn written(&mut self, page: PageNo) {
        self.update(page, |byte| match PageState::from_bits(byte) {
            PageState::Removed => byte | UNCONFIRMED,
            PageState::Missing if reverted(byte) != 0 => byte | UNCONFIRMED,
            PageState::Poisoned => byte,
            _ => installed_byte(byte, PageState::Dirty),
        });
    }

    /// The same by a handler that forgets about pages that were given up: wrong on purpose.
    pub(crate) fn promoted(&mut self, page: PageNo) {
        self.update(page, |byte| byte & !(STATE | UNCONFIRMED) | PageState::Dirty as u8);
    }

    /// An install for a read found `page` present, and what was recorded of it is forgotten: wrong
    /// on purpose.
    pub(crate) fn read_over(&mut self, page: PageNo) {
        self.update(page, |byte| match PageState::from_bits(byte) {
            PageState::Dirty => byte & !STATE | PageState::Clean as u8,
            _ => byte,
        });
        self.present(page, false);
    }

    /// What is known of the pages of a child. Its parent's removals may not have taken effect
    /// when the pages were copied.
    pub(crate) fn forked(&self) -> Tracker {
        let mut child = self.clone();
        child.forget_probes();
        for byte in child.chunks.iter_mut().flat_map(|(_, bytes)| bytes) {
            let given_up = *byte & REMOVED_ONCE != 0 || reverted(*byte) != 0;
            if given_up && *byte & UNCONFIRMED == 0 {
                *byte |= UNCONFIRMED;
                child.unconfirmed += 1;
            }
        }
        child
    }

    /// The client gave up pages of a shared object: those that were filled are as they were,
    /// or zeros.
    pub(crate) fn given_up_shared(&mut self, first: PageNo, end: PageNo) {
        for page in first.index()..end.index() {
            self.update(PageNo::new(page), |byte| {
                if PageState::from_bits(byte).is_installed() {
                    byte & !PROTECTED | UNCONFIRMED | MAYBE_PUNCHED
                } else {
                    PageState::Removed as u8 | REMOVED_ONCE
                }
            });
        }
    }

    /// The client gave up its own copies of pages of an object: they are the object's again.
    /// An install from now on may be wiped by a zap that is still to come.
    pub(crate) fn reverted(&mut self, first: PageNo, end: PageNo) {
        for page in first.index()..end.index() {
            self.update(PageNo::new(page), |_| PageState::Missing as u8 | MAYBE_PUNCHED);
        }
    }

    /// A fault, or the kernel, says that `page` is not in the page cache: if it was ever
    /// filled and given up, it has become zeros.
    pub(crate) fn missed(&mut self, page: PageNo) {
        if may_be_punched(self.byte(page)) {
            self.update(page, |_| PageState::Removed as u8 | REMOVED_ONCE);
        }
    }

    /// `page` was protected again, for a baseline.
    pub(crate) fn protected(&mut self, page: PageNo) {
        self.update(page, |byte| byte | if to_protect(byte) { PROTECTED } else { 0 });
    }

    /// The baseline was taken.
    pub(crate) fn rebase(&mut self) {
        for byte in self.chunks.iter_mut().flat_map(|(_, bytes)| bytes) {
            if *byte & PROTECTED != 0 {
                *byte = *byte & !(STATE | PROTECTED) | PageState::Clean as u8;
            }
        }
    }

    /// The same for every dirty page, whatever became of it since: wrong on purpose.
    pub(crate) fn rebase_all(&mut self) {
        for byte in self.chunks.iter_mut().flat_map(|(_, bytes)| bytes) {
            if *byte & STATE == PageState::Dirty as u8 {
                *byte = *byte & !(STATE | PROTECTED) | PageState::Clean as u8;
            }
        }
    }

    /// The first page at or after `from` that a baseline has to protect.
    pub(crate) fn next_to_protect(&self, from: PageNo) -> Option<PageNo> {
        self.find(from, to_protect)
    }

    /// The client gave up the pages from `first` up to, not including, `end`.
    pub(crate) fn removed(&mut self, first: PageNo, end: PageNo) {
        let (mut at, end) = (first.index(), end.index());
        while at < end {
            let stop = end.min((at / CHUNK + 1) * CHUNK);
            let bytes = self.chunk(at / CHUNK, (stop - 1) % CHUNK);
            let mut confirmed = 0;
            for byte in &mut bytes[(at % CHUNK) as usize..=((stop - 1) % CHUNK) as usize] {
                confirmed += u64::from(*byte & UNCONFIRMED != 0);
                *byte = PageState::Removed as u8 | REMOVED_ONCE;
            }
            self.unconfirmed -= confirmed;
            at = stop;
        }
    }

    /// The client gave up a part of `page`. What the kernel made of that cannot be known.
    pub(crate) fn cut(&mut self, page: PageNo) {
        self.update(page, |byte| byte | UNCONFIRMED);
    }

    /// An install of `page` came to its end between the reading of a `REMOVE` that covers
    /// it and the record of that: it may have landed after the zap. Of a page with no record none
    /// is made: trackers that say the same are equal.
    pub(crate) fn straddled(&mut self, page: PageNo) {
        if self.byte(page) == 0 {
            return;
        }
        self.update(page, |byte| {
            let removed = byte & STATE == PageState::Removed as u8 || reverted(byte) != 0;
            byte | if removed { UNCONFIRMED } else { 0 }
        });
    }

    /// A probe found out whether `page` is there. Pages are probed because they are
    /// unconfirmed; one that is not any more was given up while the probe was out, and
    /// what the probe found says nothing about the time after.
    pub(crate) fn probed(&mut self, page: PageNo, found: Probed) {
        self.update(page, |byte| match found {
            _ if byte & UNCONFIRMED == 0 => byte | UNCONFIRMED,
            Probed::Present if byte & STATE == PageState::Removed as u8 => {
                byte & !STATE | PageState::Dirty as u8 | PROBED
            }
            Probed::Present => byte | PROBED,
            Probed::Absent => {
                byte & !(STATE | MAYBE_PUNCHED) | REMOVED_ONCE | PageState::Zero as u8 | PROBED
            }
        });
    }

    /// Is it unknown to the snapshot in preparation whether `page` is there?
    pub(crate) fn is_ambiguous(&self, page: PageNo) -> bool {
        self.byte(page) & (UNCONFIRMED | PROBED) == UNCONFIRMED
    }

    /// The snapshot was taken: what its probes found is not to be relied on any more.
    pub(crate) fn forget_probes(&mut self) {
        for (_, bytes) in &mut self.chunks {
            for byte in bytes {
                *byte &= !(PROBED | PROTECTED);
            }
        }
    }

    /// The first page at or after `from` that a probe with zeros may ask about: it is
    /// unconfirmed, and zeros are its content if it is absent.
    pub(crate) fn next_to_probe(&self, from: PageNo) -> Option<PageNo> {
        if self.unconfirmed == 0 {
            return None;
        }
        self.find(from, |byte| {
            byte & UNCONFIRMED != 0 && (byte & REMOVED_ONCE != 0 || may_be_punched(byte))
        })
    }

    /// The first page at or after `from` whose byte is such.
    fn find(&self, from: PageNo, such: impl Fn(u8) -> bool) -> Option<PageNo> {
        let first = self.chunks.partition_point(|(number, _)| *number < from.index() / CHUNK);
        self.chunks[first..].iter().find_map(|(number, bytes)| {
            let skip = from.index().saturating_sub(number * CHUNK).min(bytes.len() as u64);
            let at = bytes[skip as usize..].iter().position(|byte| such(*byte))?;
            Some(PageNo::new(number * CHUNK + skip + at as u64))
        })
    }

    fn byte(&self, page: PageNo) -> u8 {
        let (number, within) = (page.index() / CHUNK, (page.index() % CHUNK) as usize);
        match self.chunks.binary_search_by_key(&number, |(n, _)| *n) {
            Ok(at) => self.chunks[at].1.get(within).copied().unwrap_or(0),
            Err(_) => 0,
        }
    }

    fn update(&mut self, page: PageNo, change: impl FnOnce(u8) -> u8) {
        let within = page.index() % CHUNK;
        let byte = &mut self.chunk(page.index() / CHUNK, within)[within as usize];
        let old = core::mem::replace(byte, change(*byte));
        let new = *byte;
        self.unconfirmed += u64::from(new & UNCONFIRMED != 0);
        self.unconfirmed -= u64::from(old & UNCONFIRMED != 0);
    }

    /// The bytes of chunk `number`, long enough to hold `within`.
    fn chunk(&mut self, number: u64, within: u64) -> &mut [u8] {
        let at = match self.chunks.binary_search_by_key(&number, |(n, _)| *n) {
            Ok(at) => at,
            Err(at) => {
                self.chunks.insert(at, (number, Vec::new()));
                at
            }
        };
        let bytes = &mut self.chunks[at].1;
        if bytes.len() <= within as usize {
            bytes.resize(within as usize + 1, 0);
        }
        bytes
    }
}

/// `state` in place of the one in `byte`; unconfirmed if the page was ever removed, or
/// was unconfirmed before. What a probe found earlier does not hold for this install.
const fn installed_byte(byte: u8, state: PageState) -> u8 {
    let doubt = if byte & REMOVED_ONCE != 0 { UNCONFIRMED } else { 0 };
    byte & !(STATE | PROBED | PROTECTED) | state as u8 | doubt
}

/// Was it filled and then given up, so that it is as it was or zeros?
const fn may_be_punched(byte: u8) -> bool {
    byte & MAYBE_PUNCHED != 0 && PageState::from_bits(byte).is_installed()
}

/// The doubt about an install of a page whose copy a private mapping has given up.
const fn reverted(byte: u8) -> u8 {
    let missing = matches!(PageState::from_bits(byte), PageState::Missing);
    if byte & MAYBE_PUNCHED != 0 && missing { UNCONFIRMED } else { 0 }
}

/// Dirty for certain, and not protected since.
const fn to_protect(byte: u8) -> bool {
    byte & STATE == PageState::Dirty as u8 && byte & (UNCONFIRMED | PROTECTED) == 0
}

impl fmt::Display for PageState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for Tracker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        for (page, state) in self.iter() {
            let doubt = if self.is_unconfirmed(page) { "?" } else { "" };
            map.entry(&page.index(), &format_args!("{state}{doubt}"));
        }
        map.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::PageState::{Clean, Dirty, Missing, Poisoned, Removed, Zero};
    use super::*;

    const P: PageNo = PageNo::new(5000);

    /// A tracker in which `P` has been brought into `state`.
    fn in_state(state: PageState) -> Tracker {
        let mut tracker = Tracker::new();
        match state {
            Missing => {}
            Clean => tracker.installed(P, Content::Source, false),
            Dirty => tracker.installed(P, Content::Source, true),
            Poisoned => tracker.installed(P, Content::Poison, false),
            Zero | Removed => tracker.removed(P, PageNo::new(5001)),
        }
        if state == Zero {
            tracker.installed(P, Content::Zero, false);
        }
        assert_eq!(tracker.state(P), state);
        tracker
    }

    #[test]
    fn the_transition_table_is_the_documented_one() {
        // Installed for a read, for a write; found there by a read, by a write; un-protected;
        // poisoned.
        let table = [
            (Missing, [Clean, Dirty, Clean, Dirty, Dirty, Poisoned]),
            (Clean, [Clean, Dirty, Clean, Dirty, Dirty, Poisoned]),
            (Dirty, [Clean, Dirty, Dirty, Dirty, Dirty, Poisoned]),
            (Zero, [Zero, Dirty, Zero, Dirty, Dirty, Poisoned]),
            (Removed, [Zero, Dirty, Dirty, Dirty, Removed, Poisoned]),
            (Poisoned, [Clean, Dirty, Poisoned, Poisoned, Poisoned, Poisoned]),
        ];
        for (from, to) in table {
            let content = match in_state(from).content(P) {
                Content::Poison => Content::Source,
                content => content,
            };
            let after = |change: &dyn Fn(&mut Tracker)| {
                let mut tracker = in_state(from);
                change(&mut tracker);
                tracker.state(P)
            };
            let got = [
                after(&|t| t.installed(P, content, false)),
                after(&|t| t.installed(P, content, true)),
                after(&|t| t.present(P, false)),
                after(&|t| t.present(P, true)),
                after(&|t| t.written(P)),
                after(&|t| t.installed(P, Content::Poison, false)),
            ];
            assert_eq!(got, to, "from {from}");
            assert_eq!(after(&|t| t.removed(P, PageNo::new(5001))), Removed, "from {from}");
        }
    }

    #[test]
    fn a_removed_page_is_zeros_for_ever_and_an_install_of_it_is_in_doubt() {
        for state in [Missing, Clean, Dirty, Poisoned] {
            let mut tracker = in_state(state);
            assert!(!tracker.is_unconfirmed(P));
            tracker.removed(P, PageNo::new(5001));
            assert_eq!((tracker.content(P), tracker.unconfirmed()), (Content::Zero, 0));
            tracker.installed(P, Content::Zero, true);
            tracker.installed(P, Content::Zero, false);
            assert_eq!((tracker.content(P), tracker.unconfirmed()), (Content::Zero, 1));
            tracker.removed(PageNo::new(0), PageNo::new(10_000));
            assert_eq!(tracker.unconfirmed(), 0);
        }
    }

    #[test]
    fn a_probe_holds_for_one_snapshot() {
        let mut tracker = in_state(Zero);
        assert!(tracker.is_ambiguous(P));
        tracker.probed(P, Probed::Present);
        assert!(!tracker.is_ambiguous(P) && tracker.is_unconfirmed(P));
        tracker.forget_probes();
        assert!(tracker.is_ambiguous(P));
        // Nor does it hold for an install that came after it.
        tracker.probed(P, Probed::Absent);
        tracker.present(P, true);
        assert!(tracker.is_ambiguous(P));
        // One that a REMOVE overtook says nothing.
        tracker.removed(P, PageNo::new(5001));
        tracker.probed(P, Probed::Present);
        assert_eq!((tracker.state(P), tracker.is_ambiguous(P)), (Removed, true));
    }

    #[test]
    fn pages_are_listed_in_order_across_chunks_and_memory_follows_use() {
        let mut tracker = Tracker::new();
        for page in [1 << 40, 9, CHUNK, CHUNK - 1] {
            tracker.installed(PageNo::new(page), Content::Source, false);
        }
        tracker.removed(PageNo::new(2 * CHUNK - 2), PageNo::new(3 * CHUNK + 2));
        let pages: Vec<_> = tracker.iter().map(|(page, _)| page.index()).collect();
        let mut expected = vec![9, CHUNK - 1];
        expected.push(CHUNK);
        expected.extend(2 * CHUNK - 2..3 * CHUNK + 2);
        expected.push(1 << 40);
        assert_eq!(pages, expected);
        assert_eq!(tracker.chunks.len(), 5);
        assert_eq!(tracker.chunks[3].1.len(), 2, "a chunk ends at its last page");
        assert_eq!(tracker.state(PageNo::new(u64::MAX)), Missing);
    }

    #[test]
    fn the_next_page_to_probe_is_found_from_anywhere() {
        let mut tracker = Tracker::new();
        let pages = [3, CHUNK + 5, 4 * CHUNK].map(PageNo::new);
        for page in pages {
            tracker.removed(page, PageNo::new(page.index() + 1));
            tracker.installed(page, Content::Zero, false);
        }
        tracker.cut(PageNo::new(CHUNK + 1));
        let next = |from| tracker.next_to_probe(PageNo::new(from));
        assert_eq!([next(0), next(3)], [Some(pages[0]); 2]);
        assert_eq!([next(4), next(CHUNK), next(CHUNK + 5)], [Some(pages[1]); 3]);
        assert_eq!([next(CHUNK + 6), next(2 * CHUNK)], [Some(pages[2]); 2]);
        assert_eq!(next(4 * CHUNK + 1), None);
    }
}
