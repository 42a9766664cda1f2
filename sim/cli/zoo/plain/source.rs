//! The plain handler's source, and what can be the matter with it; how often it is asked. Owns the
//! reading of pages.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use shims::Uffd as _;
use sim::sync::thread;

use super::{Came, Flaw, PAGE, PAUSE, Shop, span};

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
    /// Every read waits until a page that was removed is there again; what needs no bytes has a
    /// worker of its own.
    Stuck,
    /// It ends in the middle of its last page.
    Tail,
    /// It fails twice, and for good once the handler was asked to stop; after each time it is left
    /// alone for a while.
    Away,
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

    /// Does the source wait for what others do without it?
    pub(in super::super) fn is_stuck(self) -> bool {
        self == Trouble::Stuck
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
            let endless = self.has(Flaw::PanicRetried) || self.away;
            let stopping = self.away && self.desk.lock().unwrap().stopping;
            if stopping && !self.has(Flaw::CancelIgnored) {
                let _ = self.uffd.wake(span(page));
                return Err(Came::Served);
            }
            if self.away && !stopping {
                thread::sleep(PAUSE);
            }
            if self.has(Flaw::SourceErrorFatal) || (attempts == ATTEMPTS && !endless) {
                return Err(Came::Failed(why));
            }
        }
    }

    /// Does a source that is to recover after so many failures fail once more?
    fn fails_again(&self, times: u32) -> bool {
        let mut desk = self.desk.lock().unwrap();
        desk.failures += 1;
        desk.failures <= times
    }

    /// The source, and what is the matter with it.
    fn read_page(&self, page: u64, bytes: &mut [u8]) -> Result<usize, &'static str> {
        let mut trouble = self.trouble.lock().unwrap();
        let now = *trouble;
        if matches!(now, Trouble::FailsOnce | Trouble::ShortOnce | Trouble::PanicsOnce) {
            *trouble = Trouble::None;
        }
        drop(trouble);
        let fails = match now {
            Trouble::FailsAtFirst => self.fails_again(ATTEMPTS),
            Trouble::Away => {
                let _ = self.bed.source().try_read_page(page, bytes);
                self.fails_again(2) || self.desk.lock().unwrap().stopping
            }
            _ => false,
        };
        if fails {
            return Err("the source failed");
        }
        match now {
            Trouble::None
            | Trouble::Waits
            | Trouble::Stuck
            | Trouble::Tail
            | Trouble::Prefetches
            | Trouble::Regions
            | Trouble::Away
            | Trouble::FailsAtFirst => {
                let mut desk = self.waits.then(|| self.desk.lock().unwrap());
                while let Some(known) = desk.take_if(|desk| desk.removed.is_empty()) {
                    desk = Some(self.calm.wait(known).unwrap());
                }
                drop(desk);
                let mut desk = self.stuck.then(|| self.desk.lock().unwrap());
                while let Some(known) =
                    desk.take_if(|desk| desk.installed.is_disjoint(&desk.removed))
                {
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
            Trouble::Panics => {
                // It is asked, and that shows.
                let _ = self.bed.source().try_read_page(page, bytes);
                resume_unwind(Box::new("the source panicked"))
            }
            Trouble::PanicsOnce => resume_unwind(Box::new("the source panicked")),
        }
    }
}
