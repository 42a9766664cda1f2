//! The plain handler's prefetcher: a thread that installs what nobody has asked for yet. Owns that
//! thread and its flaws; what it gives up somebody asks for, and the workers serve.

use shims::{CopyMode, Uffd as _, Verdict};

use super::{Desk, Flaw, PAGE, Shop, span};
use shims::{Len, Span};

impl Shop {
    /// Every page, in order, once.
    pub(super) fn prefetch(&self) {
        let pages = self.bed.memory().len().bytes() / PAGE as u64;
        if self.has(Flaw::PartialIgnored) {
            return self.prefetch_at_once(pages);
        }
        for page in 0..pages {
            let over = self.desk.lock().unwrap().stopping;
            if over && !self.has(Flaw::PrefetchOutlives) {
                return;
            }
            self.prefetch_page(page);
        }
    }

    fn prefetch_page(&self, page: u64) {
        let mut bytes = vec![0; PAGE];
        if self.has(Flaw::PrefetchLost) {
            self.desk.lock().unwrap().requested.insert(page);
        }
        if self.fetch(page, &mut bytes).is_err() {
            return;
        }
        // As for any install: messages are read before it or behind it.
        let settled = (!self.has(Flaw::PrefetchUnlocked)).then(|| self.settle.read().unwrap());
        if self.desk.lock().unwrap().removed.contains(&page) {
            // It is zeros for whoever asks, and there is nothing to fetch ahead.
            self.desk.lock().unwrap().requested.remove(&page);
            let _ = self.uffd.wake(span(page));
            return;
        }
        let verdict = self.uffd.copy(span(page), &bytes, CopyMode::empty()).verdict();
        drop(settled);
        if matches!(verdict, Verdict::Done | Verdict::Present) {
            self.desk.lock().unwrap().requested.remove(&page);
        }
        if verdict == Verdict::Present {
            let _ = self.uffd.wake(span(page));
        }
    }

    /// One `COPY` for everything, and its answer is taken for all of it.
    fn prefetch_at_once(&self, pages: u64) {
        let mut bytes = vec![0; PAGE * pages as usize];
        for (page, bytes) in (0..).zip(bytes.chunks_mut(PAGE)) {
            if self.fetch(page, bytes).is_err() {
                return;
            }
        }
        let all = Span::new(span(0).start, Len::new(bytes.len() as u64));
        let verdict = self.uffd.copy(all, &bytes, CopyMode::empty()).verdict();
        if matches!(verdict, Verdict::Done | Verdict::Partial(_)) {
            self.desk.lock().unwrap().installed.extend(0..pages);
        }
    }

    /// Is a fault left to the prefetcher? Of those without a flaw never.
    pub(super) fn is_awaited(&self, desk: &Desk, page: u64) -> bool {
        let lost = self.has(Flaw::PrefetchLost) && desk.requested.contains(&page);
        lost || self.has(Flaw::PartialIgnored) && desk.installed.contains(&page)
    }
}
