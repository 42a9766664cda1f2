//! What a page may hold. Owns the bookkeeping by which every word that is read is
//! explained: by the image, by a zero after a remove, or by a write.
//!
//! Readers, one writer and any number of removers act on a page at once and never wait
//! for one another here: a lock between them would keep the races away that the command
//! is there to meet. What is legal therefore follows from the order of counters alone.
//! An interval is what a thread knows: its remove or write happened at some moment
//! between `begin` and `end`, its read between [`Ledger::before`] and [`Ledger::after`].
//!
//! - The *image* is legal until some remove (or some write to the word) has ended before
//!   the read began.
//! - *Zero* is legal once a remove has begun before the read ended, unless every such
//!   remove had ended before the last write that ended before the read began.
//! - A *write* is legal if it began before the read ended, no later write ended before
//!   the read began, and no remove that began after its end had ended by then.
//!
//! The rules never call a right answer wrong. Two overlapping removes of one page may
//! excuse a value that only one of them could: the counters do not tell them apart.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// The bookkeeping of a whole region.
#[derive(Debug)]
pub struct Ledger {
    pages: Vec<Page>,
}

/// One page. The record of write number `k` is in place `k % 2` of the arrays, so that a
/// write in progress does not touch the record of the last one that ended.
#[derive(Debug, Default)]
struct Page {
    removes_begun: AtomicU64,
    removes_ended: AtomicU64,
    /// Twice the number of writes that ended, plus one while one is in progress.
    writes: AtomicU64,
    /// Removes that had ended when that write began.
    ended_at_begin: [AtomicU64; 2],
    /// Removes that had begun when that write ended.
    begun_at_end: [AtomicU64; 2],
}

/// What was known of a page before a read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Before {
    removes_ended: u64,
    writes_ended: u64,
    ended_at_begin: u64,
    begun_at_end: u64,
}

/// What was known of a page after a read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct After {
    removes_begun: u64,
    writes_begun: u64,
}

/// The right to write to a page; one at a time.
#[derive(Debug)]
pub struct Write<'a> {
    page: &'a Page,
    number: u64,
    value: u64,
    ended_at_begin: u64,
}

/// Where in a page a word lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// Where writes go.
    Slot,
    /// Anywhere else.
    Elsewhere,
}

/// A word that nothing explains.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wrong {
    /// What was read.
    pub found: u64,
    /// What the image holds there.
    pub image: u64,
    /// What the word seems to be.
    pub looks_like: Looks,
    /// What was known before.
    pub before: Before,
    /// What was known after.
    pub after: After,
}

/// What a wrong word seems to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Looks {
    /// The image, after a remove or a write.
    StaleImage,
    /// Zero, although nothing was removed since the image or the last write.
    LostContent,
    /// A write that was overwritten or removed.
    StaleWrite(u64),
    /// A write to another page.
    ForeignWrite(u64),
    /// Neither of these.
    Garbage,
}

/// Marks a written word; the page's low bits and the write's number follow.
const MARK: u64 = 1 << 63;
const PAGE_BITS: u32 = 31;

fn value(page: u64, number: u64) -> u64 {
    MARK | (page & ((1 << PAGE_BITS) - 1)) << 32 | (number & 0xffff_ffff)
}

impl Ledger {
    /// The bookkeeping of `pages` pages that show the image.
    pub fn new(pages: u64) -> Ledger {
        Ledger { pages: (0..pages).map(|_| Page::default()).collect() }
    }

    /// Offset of the word of `page` that is written to, in a page of `size` bytes.
    pub fn slot(page: u64, size: u64) -> u64 {
        // Spread over the page, so that a copy that goes wrong in a part of it shows.
        page.wrapping_mul(0x9e37_79b9_7f4a_7c15) % (size / 8) * 8
    }

    /// Look before a read of `page`.
    pub fn before(&self, page: u64) -> Before {
        let page = self.page(page);
        loop {
            let writes = page.writes.load(SeqCst);
            let record = (writes / 2 % 2) as usize;
            let before = Before {
                removes_ended: page.removes_ended.load(SeqCst),
                writes_ended: writes / 2,
                ended_at_begin: page.ended_at_begin[record].load(SeqCst),
                begun_at_end: page.begun_at_end[record].load(SeqCst),
            };
            // The record is rewritten two writes later at the earliest.
            if page.writes.load(SeqCst) == writes {
                return before;
            }
        }
    }

    /// Look after a read of `page`.
    pub fn after(&self, page: u64) -> After {
        let page = self.page(page);
        After {
            removes_begun: page.removes_begun.load(SeqCst),
            writes_begun: page.writes.load(SeqCst).div_ceil(2),
        }
    }

    /// Start to remove `count` pages from `first`.
    pub fn begin_remove(&self, first: u64, count: u64) {
        for page in first..first + count {
            self.page(page).removes_begun.fetch_add(1, SeqCst);
        }
    }

    /// They have been removed.
    pub fn end_remove(&self, first: u64, count: u64) {
        for page in first..first + count {
            self.page(page).removes_ended.fetch_add(1, SeqCst);
        }
    }

    /// The right to write to `page`, unless another thread has it.
    pub fn begin_write(&self, number: u64) -> Option<Write<'_>> {
        let page = self.page(number);
        let ended_at_begin = page.removes_ended.load(SeqCst);
        let writes = page.writes.load(SeqCst);
        if writes % 2 == 1
            || page.writes.compare_exchange(writes, writes + 1, SeqCst, SeqCst).is_err()
        {
            return None;
        }
        let write = writes / 2 + 1;
        Some(Write { page, number: write, value: value(number, write), ended_at_begin })
    }

    /// Removes of `page` that have begun, and that have ended.
    pub fn removes(&self, page: u64) -> (u64, u64) {
        let page = self.page(page);
        (page.removes_begun.load(SeqCst), page.removes_ended.load(SeqCst))
    }

    /// Explain a word of page number `page`, or do not.
    pub fn explain(
        page: u64,
        place: Place,
        found: u64,
        image: u64,
        before: Before,
        after: After,
    ) -> Result<(), Wrong> {
        // Where nothing is written, no write has ended or begun.
        let (writes_ended, writes_begun) = match place {
            Place::Slot => (before.writes_ended, after.writes_begun),
            Place::Elsewhere => (0, 0),
        };
        let image_is_legal = before.removes_ended == 0 && writes_ended == 0;
        let since = if writes_ended == 0 { 0 } else { before.ended_at_begin };
        let zero_is_legal = after.removes_begun > since;
        // 32 bits of the number are in the word: enough for any run.
        let number = found & 0xffff_ffff;
        let marked = found & MARK != 0;
        let ours = marked && found == value(page, number);
        let write_is_legal = ours
            && number >= 1
            && (number > writes_ended || before.removes_ended <= before.begun_at_end)
            && (writes_ended..=writes_begun).contains(&number);
        if found == image && image_is_legal || found == 0 && zero_is_legal || write_is_legal {
            return Ok(());
        }
        let looks_like = match place {
            _ if found == image => Looks::StaleImage,
            _ if found == 0 => Looks::LostContent,
            Place::Slot if ours => Looks::StaleWrite(number),
            _ if marked => Looks::ForeignWrite(found >> 32 & ((1 << PAGE_BITS) - 1)),
            _ => Looks::Garbage,
        };
        Err(Wrong { found, image, looks_like, before, after })
    }

    fn page(&self, page: u64) -> &Page {
        &self.pages[page as usize]
    }
}

impl Write<'_> {
    /// The word to write: no other write to the region has it.
    pub fn value(&self) -> u64 {
        self.value
    }

    /// It is written.
    pub fn end(self) {
        let record = (self.number % 2) as usize;
        self.page.ended_at_begin[record].store(self.ended_at_begin, SeqCst);
        let begun = self.page.removes_begun.load(SeqCst);
        self.page.begun_at_end[record].store(begun, SeqCst);
        self.page.writes.store(2 * self.number, SeqCst);
    }
}

impl std::fmt::Display for Wrong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "read {:#018x}, the image has {:#018x}: ", self.found, self.image)?;
        match self.looks_like {
            Looks::StaleImage => f.write_str("the image, after it was removed or overwritten"),
            Looks::LostContent => f.write_str("zero, although nothing was removed since"),
            Looks::StaleWrite(number) => {
                write!(f, "write {number}, after it was removed or overwritten")
            }
            Looks::ForeignWrite(page) => write!(f, "a write to page {page}"),
            Looks::Garbage => f.write_str("neither image, nor zero, nor a write"),
        }?;
        let Before { removes_ended, writes_ended, ended_at_begin, begun_at_end } = self.before;
        let After { removes_begun, writes_begun } = self.after;
        write!(
            f,
            " (before: {removes_ended} removes and {writes_ended} writes had ended; after: \
             {removes_begun} removes and {writes_begun} writes had begun; the last write saw \
             {ended_at_begin} ended and {begun_at_end} begun)"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IMAGE: u64 = 0x1111;

    /// What a read of page 0 may answer, out of image, zero and the first four writes,
    /// if `during` happens while it is made.
    fn legal(ledger: &Ledger, place: Place, during: impl FnOnce()) -> Vec<&'static str> {
        let before = ledger.before(0);
        during();
        let after = ledger.after(0);
        let candidates = [
            ("image", IMAGE),
            ("zero", 0),
            ("w1", value(0, 1)),
            ("w2", value(0, 2)),
            ("w3", value(0, 3)),
            ("foreign", value(1, 1)),
            ("garbage", 0xdead),
        ];
        let ok = |word| Ledger::explain(0, place, word, IMAGE, before, after).is_ok();
        candidates.iter().filter(|(_, word)| ok(*word)).map(|(name, _)| *name).collect()
    }

    fn write(ledger: &Ledger) {
        ledger.begin_write(0).unwrap().end();
    }

    fn remove(ledger: &Ledger) {
        ledger.begin_remove(0, 1);
        ledger.end_remove(0, 1);
    }

    #[test]
    fn at_first_there_is_the_image_and_nothing_else() {
        let ledger = Ledger::new(1);
        assert_eq!(legal(&ledger, Place::Slot, || {}), ["image"]);
        assert_eq!(legal(&ledger, Place::Elsewhere, || {}), ["image"]);
    }

    #[test]
    fn a_remove_allows_zero_when_it_begins_and_forbids_the_image_when_it_ends() {
        let ledger = Ledger::new(1);
        ledger.begin_remove(0, 1);
        assert_eq!(legal(&ledger, Place::Elsewhere, || {}), ["image", "zero"]);
        ledger.end_remove(0, 1);
        assert_eq!(legal(&ledger, Place::Elsewhere, || {}), ["zero"]);
        let ledger = Ledger::new(1);
        let during = || remove(&ledger);
        assert_eq!(legal(&ledger, Place::Elsewhere, during), ["image", "zero"]);
    }

    #[test]
    fn a_write_replaces_everything_in_its_slot_and_nothing_elsewhere() {
        let ledger = Ledger::new(1);
        remove(&ledger);
        write(&ledger);
        assert_eq!(legal(&ledger, Place::Slot, || {}), ["w1"]);
        assert_eq!(legal(&ledger, Place::Elsewhere, || {}), ["zero"]);
        assert_eq!(legal(&ledger, Place::Slot, || write(&ledger)), ["w1", "w2"]);
        assert_eq!(legal(&ledger, Place::Slot, || {}), ["w2"]);
    }

    #[test]
    fn a_write_in_progress_may_show_or_not() {
        let ledger = Ledger::new(1);
        let write = ledger.begin_write(0).unwrap();
        assert!(ledger.begin_write(0).is_none(), "one writer at a time");
        assert_eq!(legal(&ledger, Place::Slot, || {}), ["image", "w1"]);
        write.end();
        assert_eq!(legal(&ledger, Place::Slot, || {}), ["w1"]);
    }

    #[test]
    fn a_remove_after_a_write_leaves_zero_only() {
        let ledger = Ledger::new(1);
        write(&ledger);
        ledger.begin_remove(0, 1);
        assert_eq!(legal(&ledger, Place::Slot, || {}), ["zero", "w1"]);
        ledger.end_remove(0, 1);
        assert_eq!(legal(&ledger, Place::Slot, || {}), ["zero"]);
        write(&ledger);
        assert_eq!(legal(&ledger, Place::Slot, || remove(&ledger)), ["zero", "w2"]);
    }

    #[test]
    fn a_remove_that_a_write_overlaps_may_come_before_or_after_it() {
        let ledger = Ledger::new(1);
        ledger.begin_remove(0, 1);
        write(&ledger);
        ledger.end_remove(0, 1);
        assert_eq!(legal(&ledger, Place::Slot, || {}), ["zero", "w1"]);
        let ledger = Ledger::new(1);
        let write = ledger.begin_write(0).unwrap();
        remove(&ledger);
        write.end();
        assert_eq!(legal(&ledger, Place::Slot, || {}), ["zero", "w1"]);
    }

    #[test]
    fn a_wrong_word_is_told_for_what_it_is() {
        let ledger = Ledger::new(2);
        remove(&ledger);
        write(&ledger);
        write(&ledger);
        let (before, after) = (ledger.before(0), ledger.after(0));
        let looks = |word, place| {
            Ledger::explain(0, place, word, IMAGE, before, after).unwrap_err().looks_like
        };
        assert_eq!(looks(IMAGE, Place::Slot), Looks::StaleImage);
        assert_eq!(looks(0, Place::Slot), Looks::LostContent);
        assert_eq!(looks(value(0, 1), Place::Slot), Looks::StaleWrite(1));
        assert_eq!(looks(value(1, 1), Place::Slot), Looks::ForeignWrite(1));
        assert_eq!(looks(value(0, 2), Place::Elsewhere), Looks::ForeignWrite(0));
        assert_eq!(looks(7, Place::Elsewhere), Looks::Garbage);
    }

    #[test]
    fn an_image_of_zeros_is_never_wrong_and_slots_stay_inside() {
        let ledger = Ledger::new(1);
        let (before, after) = (ledger.before(0), ledger.after(0));
        assert!(Ledger::explain(0, Place::Slot, 0, 0, before, after).is_ok());
        for page in 0..1000 {
            assert!(Ledger::slot(page, 4096) <= 4088 && Ledger::slot(page, 4096).is_multiple_of(8));
        }
    }
}
