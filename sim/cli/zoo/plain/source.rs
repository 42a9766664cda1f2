//! The plain handler's source, and what can be the matter with it; how often it is asked. Owns the
//! reading of pages.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::{Came, Flaw, PAGE, Shop};

/// What is the matter with the source.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trouble {
    /// Nothing.
    None,
    /// The first read fails.
    FailsOnce,
    /// The first read gives nothing and says so.
    ShortOnce,
    /// The first read panics.
    PanicsOnce,
    /// Every read panics.
    Panics,
    /// Every read waits until a removal is known.
    Waits,
    /// It ends in the middle of its last page.
    Tail,
    /// Its first reads fail, and the handler that gave up over them is started again.
    FailsAtFirst,
    /// Nothing; and the memory consists of two regions.
    Regions,
    /// Nothing; and a thread of its own fetches what nobody has asked for yet.
    Prefetches,
}

impl Trouble {
    /// Do the sources of our own handler's worlds show it? They work.
    pub(in super::super) fn is_none(self) -> bool {
        matches!(self, Trouble::None | Trouble::Prefetches | Trouble::Regions)
    }

    /// How often the handler is started at most.
    pub(in super::super) fn starts(self) -> usize {
        if self == Trouble::FailsAtFirst { 2 } else { 1 }
    }

    /// Is there a thread that prefetches?
    pub(in super::super) fn prefetches(self) -> bool {
        self == Trouble::Prefetches
    }
}

/// How often a source is asked for one page.
const ATTEMPTS: u32 = 4;

impl Shop {
    /// Fill `bytes` with the page, or say what becomes of its job.
    pub(super) fn fetch(&self, page: u64, bytes: &mut [u8]) -> Result<(), Came> {
        let mut attempts = 0;
        let whole = PAGE.min(self.image - page as usize * PAGE);
        loop {
            attempts += 1;
            let why = match catch_unwind(AssertUnwindSafe(|| self.read_page(page, bytes))) {
                Ok(Ok(count)) if count == whole => return Ok(()),
                Ok(Ok(_)) if self.has(Flaw::ShortRead) => return Ok(()),
                Ok(Ok(count)) => format!("the source gave {count} bytes"),
                Ok(Err(why)) => why.to_owned(),
                Err(_) if self.has(Flaw::PanicSwallowed) => return Err(Came::Gone),
                Err(_) => "the source panicked".to_owned(),
            };
            let endless = self.has(Flaw::PanicRetried);
            if self.has(Flaw::SourceErrorFatal) || (attempts == ATTEMPTS && !endless) {
                return Err(Came::Failed(why));
            }
        }
    }

    /// Does a source that is to recover fail once more? As often as one page is asked for.
    fn fails_again(&self) -> bool {
        let mut desk = self.desk.lock().unwrap();
        desk.failures += 1;
        desk.failures <= ATTEMPTS
    }

    /// The source, and what is the matter with it.
    fn read_page(&self, page: u64, bytes: &mut [u8]) -> Result<usize, &'static str> {
        let mut trouble = self.trouble.lock().unwrap();
        let now = *trouble;
        if matches!(now, Trouble::FailsOnce | Trouble::ShortOnce | Trouble::PanicsOnce) {
            *trouble = Trouble::None;
        }
        drop(trouble);
        if now == Trouble::FailsAtFirst && self.fails_again() {
            return Err("the source failed");
        }
        match now {
            Trouble::None
            | Trouble::Waits
            | Trouble::Tail
            | Trouble::Prefetches
            | Trouble::Regions
            | Trouble::FailsAtFirst => {
                let mut desk = self.waits.then(|| self.desk.lock().unwrap());
                while let Some(known) = desk.take_if(|desk| desk.removed.is_empty()) {
                    desk = Some(self.calm.wait(known).unwrap());
                }
                drop(desk);
                let end = page as usize * PAGE + PAGE;
                if end > self.image && self.has(Flaw::TailUnchecked) {
                    resume_unwind(Box::new("the slice ends behind the image"));
                }
                let read = self.bed.source().try_read_page(page, bytes);
                // Behind the end there are zeros.
                let there = |count: usize| count.min(PAGE - end.saturating_sub(self.image));
                read.map(there).map_err(|_| "the source failed")
            }
            Trouble::FailsOnce => Err("the source failed"),
            Trouble::ShortOnce => Ok(0),
            Trouble::PanicsOnce | Trouble::Panics => resume_unwind(Box::new("the source panicked")),
        }
    }
}
