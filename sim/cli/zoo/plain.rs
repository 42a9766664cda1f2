//! A handler as people write it, right unless it is given a flaw: one thread reads, the others
//! install; a lock lets messages be read only while no install is under way. Owns the handler;
//! the flaws are described in `flaw.rs`.

mod prefetch;
mod source;

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;
use std::time::Duration;

use shims::{CopyMode, Errno, Event, Len, Outcome, Span, Uffd as _, Verdict, Waiter as _, Wakeup};
use shims::{Time, ZeropageMode};
use sim::coop::{Bed, Uffd, Waiter};
use sim::sync::{Arc, Condvar, Mutex, RwLock, thread};
use sim::world::{page_addr, page_index};

use super::flaw::Flaw;
pub use source::Trouble;

const PAGE: usize = 4096;

/// How long a fault is put off that met `EAGAIN`.
const PAUSE: Duration = Duration::from_millis(10);

/// A fault that was read.
#[derive(Clone, Copy, Debug)]
struct Job {
    page: u64,
    /// Its place in the batch.
    at: usize,
    /// Whether the page had been removed when it was tried first.
    decided: Option<bool>,
}

#[derive(Debug, Default)]
struct Desk {
    /// Pages that were ever removed: they are zeros for ever.
    removed: BTreeSet<u64>,
    queue: VecDeque<Job>,
    /// Those that need no bytes, if they have a worker of their own.
    quick: VecDeque<Job>,
    deferred: Vec<Job>,
    /// When those are tried again.
    due: Option<Time>,
    /// Pages on their way.
    busy: Vec<u64>,
    why: Option<String>,
    /// The handler was asked to stop.
    stopping: bool,
    /// The workers go once nothing is queued.
    over: bool,
    /// Reads of a source that is to recover.
    failures: u32,
    /// What only a flaw looks at.
    installed: BTreeSet<u64>,
    requested: BTreeSet<u64>,
    batch: Vec<u64>,
}

struct Shop {
    flaw: Option<Flaw>,
    bed: Bed,
    uffd: Uffd,
    waiter: Waiter,
    desk: Mutex<Desk>,
    work: Condvar,
    calm: Condvar,
    /// Shared by installs, taken alone to read.
    settle: RwLock<()>,
    trouble: Mutex<Trouble>,
    /// The source waits for removals.
    waits: bool,
    /// The source waits for a page that needs none of it.
    stuck: bool,
    /// The source comes back, if it does, after a while.
    away: bool,
    /// Bytes of the image.
    image: usize,
    /// The pages of each region.
    regions: Vec<Range<u64>>,
    /// What only a flaw looks at: bytes on their way, whoever fetched them.
    bytes: Mutex<Vec<u8>>,
}

/// What became of a job.
enum Came {
    Served,
    Later,
    Failed(String),
    /// Its worker goes.
    Gone,
}

/// Serve with `workers` threads besides this one, and one more that waits for the order to stop, if
/// it can come.
pub(super) fn serve(
    bed: Bed,
    workers: usize,
    stops: bool,
    flaw: Option<Flaw>,
    trouble: Trouble,
) -> Result<(), String> {
    let pages = bed.memory().len().bytes() / PAGE as u64;
    let border = if trouble == Trouble::Regions { pages / 2 } else { 0 };
    let shop = Arc::new(Shop {
        flaw,
        bed,
        uffd: bed.uffd(),
        waiter: bed.waiter(),
        desk: Mutex::named("desk", Desk::default()),
        work: Condvar::named("work"),
        calm: Condvar::named("calm"),
        settle: RwLock::named("settle", ()),
        trouble: Mutex::named("source", trouble),
        waits: trouble == Trouble::Waits,
        stuck: trouble.is_stuck(),
        away: trouble == Trouble::Away,
        image: bed.memory().len().bytes() as usize
            - usize::from(trouble == Trouble::Tail) * PAGE / 2,
        bytes: Mutex::named("bytes", Vec::new()),
        regions: [0..border, border..pages].into_iter().filter(|pages| !pages.is_empty()).collect(),
    });
    let mut started = Vec::new();
    for number in 0..workers {
        let shop = Arc::clone(&shop);
        let worker = thread::Builder::new().name(format!("worker{}", number + 1));
        started.push(worker.spawn(move || shop.work()).map_err(|error| error.to_string())?);
    }
    if trouble.is_stuck() {
        let shop = Arc::clone(&shop);
        let quick = thread::Builder::new().name("quick".to_owned());
        let quick = quick.spawn(move || shop.work_at(|desk| &mut desk.quick));
        started.push(quick.map_err(|error| error.to_string())?);
    }
    if stops {
        let shop = Arc::clone(&shop);
        let owner = thread::Builder::new().name("owner".to_owned());
        owner.spawn(move || shop.wait_for_the_end()).map_err(|error| error.to_string())?;
    }
    if trouble.prefetches() {
        let shop = Arc::clone(&shop);
        let ahead = thread::Builder::new().name("prefetcher".to_owned());
        let ahead = ahead.spawn(move || shop.prefetch()).map_err(|error| error.to_string())?;
        started.extend((flaw != Some(Flaw::PrefetchOutlives)).then_some(ahead));
    }
    if let Err(why) = shop.read() {
        if trouble.starts() == 1 {
            return Err(why);
        }
        // Its owner has seen to the source, and starts it again.
        shop.go();
        started.drain(..).for_each(|worker| drop(worker.join()));
        shop.desk.lock().unwrap().over = false;
        for _ in 0..workers {
            let shop = Arc::clone(&shop);
            started.push(thread::spawn(move || shop.work()));
        }
        shop.read()?;
    }
    if shop.has(Flaw::ClosesEarly) {
        bed.close();
    }
    for worker in started {
        let _ = worker.join();
    }
    // The descriptor is its owner's: to close it would let whoever faults next read zeros.
    if shop.has(Flaw::ClosesAtEnd) || shop.has(Flaw::PrefetchOutlives) {
        bed.close();
    }
    Ok(())
}

impl Shop {
    fn has(&self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }

    fn read(&self) -> Result<(), String> {
        let mut batch = Vec::new();
        loop {
            let wakeup = self.waiter.wait(self.deadline()).map_err(|errno| errno.to_string())?;
            let mut desk = self.desk.lock().unwrap();
            let why = if self.has(Flaw::ErrorSticks) { desk.why.clone() } else { desk.why.take() };
            if let Some(why) = why {
                return Err(why);
            }
            if desk.stopping && (!self.has(Flaw::StopMissed) || desk.queue.is_empty()) {
                drop(desk);
                self.stop();
                return Ok(());
            }
            if self.is_due(&mut desk) {
                // Faults that were put off go before new ones.
                let deferred = std::mem::take(&mut desk.deferred);
                for job in deferred.into_iter().rev() {
                    self.lane(&mut desk, job.page).push_front(job);
                    self.work.notify_all();
                }
            }
            drop(desk);
            if self.has(Flaw::BellEmptied) {
                let _ = self.waiter.wait(Some(self.waiter.now()));
            }
            if wakeup.contains(Wakeup::READABLE) {
                let odd = self.read_batch(&mut batch).unwrap_or_else(Some);
                if let Some(why) = odd {
                    self.calm_down();
                    return Err(why);
                }
            }
            if self.has(Flaw::ServesInline) {
                self.serve_inline();
            }
        }
    }

    /// The owner's thread.
    fn wait_for_the_end(&self) {
        self.bed.until_stopped();
        self.desk.lock().unwrap().stopping = true;
        self.waiter.notify();
    }

    /// Nothing more is read. What was read is served, or its threads are woken; then the workers
    /// go.
    fn stop(&self) {
        if self.has(Flaw::StopDropsQueue) {
            self.desk.lock().unwrap().queue.clear();
        }
        if !self.has(Flaw::ClosesEarly) {
            self.calm_down();
        }
        self.go();
    }

    /// The workers go once nothing is queued.
    fn go(&self) {
        self.desk.lock().unwrap().over = true;
        self.work.notify_all();
    }

    /// Does nothing but the bell lead back to a fault that was put off?
    fn by_bell(&self) -> bool {
        let silent = [Flaw::DeferSilently, Flaw::SignalBeforePush, Flaw::BellEmptied];
        self.flaw.is_some_and(|flaw| silent.contains(&flaw))
    }

    fn deadline(&self) -> Option<Time> {
        self.desk.lock().unwrap().due.filter(|_| !self.by_bell())
    }

    /// Is it time for those that were put off? They wait, or they would meet `EAGAIN` for as long
    /// as the one who changes the address space does not go on.
    fn is_due(&self, desk: &mut Desk) -> bool {
        let now = self.waiter.now();
        let due = desk.due.is_some_and(|due| due <= now) || self.by_bell();
        if due && self.has(Flaw::NewFirst) && !desk.queue.is_empty() {
            desk.due = Some(now.after(PAUSE));
            return false;
        }
        if due {
            desk.due = None;
        }
        due
    }

    /// The queue for a page.
    fn lane<'d>(&self, desk: &'d mut Desk, page: u64) -> &'d mut VecDeque<Job> {
        let quick = self.stuck && desk.removed.contains(&page) && !self.has(Flaw::PoolShared);
        if quick { &mut desk.quick } else { &mut desk.queue }
    }

    /// Read what there is and record it. Says why the handler has to end, if it has to.
    fn read_batch(&self, batch: &mut Vec<Event>) -> Result<Option<String>, String> {
        batch.clear();
        let crossed = self.has(Flaw::LocksCrossed).then(|| self.desk.lock().unwrap());
        let mut settled = None;
        if !self.has(Flaw::NoExclusion) {
            settled = Some(self.settle.write().unwrap());
        }
        drop(crossed);
        let end = self.drain(batch);
        let odd = batch.iter().find_map(|event| match event {
            Event::Fault(_) | Event::Remove(_) | Event::Unmap(_) => None,
            event => Some(format!("unexpected {event}")),
        });
        if odd.is_some() && self.has(Flaw::BatchDropped) {
            return Ok(odd);
        }
        if self.has(Flaw::FaultsFirst) {
            drop(settled);
            self.enqueue(batch);
            self.record(batch);
        } else {
            self.record(batch);
            self.enqueue(batch);
        }
        end.map(|()| odd)
    }

    /// Read until nothing is queued.
    fn drain(&self, batch: &mut Vec<Event>) -> Result<(), String> {
        let mut empty = 0;
        loop {
            match self.uffd.read_events(batch, 16) {
                Ok(0) if self.has(Flaw::EofIgnored) => return Ok(()),
                Ok(0) => return Err("end of file".to_owned()),
                Ok(_) => {}
                Err(Errno::EAGAIN) if !batch.is_empty() => return Ok(()),
                Err(Errno::EAGAIN) if self.has(Flaw::EmptyReadFatal) => {
                    return Err("read: EAGAIN".to_owned());
                }
                Err(Errno::EAGAIN) if self.has(Flaw::EmptyReadRetried) => {
                    empty += 1;
                    if empty == 32 {
                        return Err("too many attempts".to_owned());
                    }
                }
                Err(Errno::EAGAIN) => return Ok(()),
                Err(Errno::EINTR) if !self.has(Flaw::InterruptFatal) => {}
                Err(errno) => return Err(format!("read: {errno}")),
            }
        }
    }

    fn record(&self, batch: &[Event]) {
        let mut desk = self.desk.lock().unwrap();
        for event in batch {
            if let Event::Remove(span) | Event::Unmap(span) = event {
                let first = page_index(span.start).unwrap_or(0);
                let short = u64::from(self.has(Flaw::OneShort));
                let end = first + span.len.bytes() / PAGE as u64 - short;
                let parts = self.regions.iter().map(|all| first.max(all.start)..end.min(all.end));
                let parts = parts.filter(|pages| !pages.is_empty());
                let known = if self.has(Flaw::RegionSpanned) { 1 } else { self.regions.len() };
                for pages in parts.take(known) {
                    desk.installed.retain(|page| !pages.contains(page));
                    desk.removed.extend(pages);
                }
            }
        }
        if self.waits {
            self.calm.notify_all();
        }
    }

    fn enqueue(&self, batch: &[Event]) {
        let faults = batch.iter().filter_map(|event| match event {
            Event::Fault(fault) => page_index(fault.addr),
            _ => None,
        });
        let mut pages: Vec<u64> = faults.collect();
        if self.has(Flaw::BufferAliased)
            && let Some(last) = pages.last().copied()
        {
            pages.fill(last);
        }
        let mut desk = self.desk.lock().unwrap();
        for (at, page) in pages.iter().copied().enumerate() {
            let joins = self.has(Flaw::LateJoin) && desk.busy.contains(&page);
            let requested = self.has(Flaw::RequestedForEver) && !desk.requested.insert(page);
            let requested = requested || self.is_awaited(&desk, page);
            // One for each page: its install wakes all who wait.
            let mut jobs = desk.queue.iter().chain(&desk.quick).chain(&desk.deferred);
            let known = jobs.any(|job| job.page == page) && !self.has(Flaw::EveryFaultQueued);
            if !joins && !requested && !known {
                self.lane(&mut desk, page).push_back(Job { page, at, decided: None });
                self.work.notify_all();
            }
        }
        desk.batch = pages;
    }

    /// Let every job that was read come to its end.
    fn calm_down(&self) {
        let mut desk = self.desk.lock().unwrap();
        while !desk.queue.is_empty() || !desk.quick.is_empty() || !desk.busy.is_empty() {
            desk = self.calm.wait(desk).unwrap();
        }
        let deferred = std::mem::take(&mut desk.deferred);
        if self.has(Flaw::StopDropsDeferred) {
            return;
        }
        for job in deferred {
            let _ = self.uffd.wake(span(job.page));
        }
    }

    fn work(&self) {
        self.work_at(|desk| &mut desk.queue);
    }

    fn work_at(&self, queue: impl Fn(&mut Desk) -> &mut VecDeque<Job>) {
        loop {
            let mut desk = self.desk.lock().unwrap();
            while queue(&mut desk).is_empty() {
                if desk.over {
                    return;
                }
                if self.has(Flaw::WaitUnchecked) {
                    drop(desk);
                    desk = self.desk.lock().unwrap();
                }
                desk = self.work.wait(desk).unwrap();
            }
            let job = self.take(queue(&mut desk));
            desk.busy.push(job.page);
            drop(desk);
            if !self.finish(job) {
                return;
            }
        }
    }

    /// The next of a queue that has some.
    fn take(&self, queue: &mut VecDeque<Job>) -> Job {
        let first = |job: &Job| self.regions[0].contains(&job.page);
        let at = self.has(Flaw::ClientFirst).then(|| queue.iter().position(first)).flatten();
        queue.remove(at.unwrap_or(0)).expect("it is not empty")
    }

    /// Do a job. Tells whether the worker goes on.
    fn finish(&self, mut job: Job) -> bool {
        let mut came = self.install(&mut job);
        while self.has(Flaw::RetriedAtOnce) && matches!(came, Came::Later) {
            came = self.install(&mut job);
        }
        if let Came::Failed(_) = came {
            // Whoever serves next is told of the fault again.
            let _ = self.uffd.wake(span(job.page));
        }
        if self.has(Flaw::SignalBeforePush) && matches!(came, Came::Later) {
            self.waiter.notify();
        }
        let mut desk = self.desk.lock().unwrap();
        if let Some(at) = desk.busy.iter().position(|page| *page == job.page) {
            desk.busy.swap_remove(at);
        }
        let (mut bell, mut stays) = (false, true);
        match came {
            Came::Served => {}
            Came::Later => {
                desk.deferred.push(job);
                desk.due.get_or_insert(self.waiter.now().after(PAUSE));
                bell = !self.has(Flaw::DeferSilently) && !self.has(Flaw::SignalBeforePush);
            }
            Came::Failed(why) => {
                desk.why = Some(why);
                bell = true;
            }
            Came::Gone => stays = false,
        }
        self.calm.notify_all();
        drop(desk);
        if bell {
            self.waiter.notify();
        }
        stays
    }

    fn serve_inline(&self) {
        loop {
            let mut desk = self.desk.lock().unwrap();
            let Some(mut job) = desk.queue.pop_front() else { return };
            drop(desk);
            while let Came::Later = self.install(&mut job) {}
        }
    }

    fn install(&self, job: &mut Job) -> Came {
        let page = match self.has(Flaw::BufferReused) {
            true => self.desk.lock().unwrap().batch.get(job.at).copied().unwrap_or(job.page),
            false => job.page,
        };
        let before = job.decided.filter(|_| self.has(Flaw::DeferredDecided));
        let early = before.unwrap_or_else(|| self.desk.lock().unwrap().removed.contains(&page));
        let mut bytes = vec![0; PAGE];
        let under = self.has(Flaw::FetchUnderLock).then(|| self.settle.read().unwrap());
        if !early && let Err(came) = self.fetch(page, &mut bytes) {
            return came;
        }
        if self.has(Flaw::BytesShared) {
            self.bytes.lock().unwrap().clone_from(&bytes);
        }
        let settled = under.unwrap_or_else(|| self.settle.read().unwrap());
        let mut desk = self.desk.lock().unwrap();
        let trusts = self.has(Flaw::ShortCircuit) || self.has(Flaw::CommitOutside);
        if trusts && desk.installed.contains(&page) {
            return Came::Served;
        }
        let removed = match self.has(Flaw::DecideOutside) {
            true => early,
            false => before.unwrap_or_else(|| desk.removed.contains(&page)),
        };
        job.decided = Some(removed);
        if self.has(Flaw::RemovesLost) {
            desk.removed.remove(&page);
        }
        drop(desk);
        if self.has(Flaw::BytesShared) {
            bytes.clone_from(&self.bytes.lock().unwrap());
            bytes.resize(PAGE, 0);
        }
        let mut outcome = self.fill(page, removed, &bytes);
        while self.has(Flaw::RetryUnderLock) && outcome.verdict() == Verdict::Changing {
            outcome = self.fill(page, removed, &bytes);
        }
        if self.has(Flaw::CommitOutside) {
            drop(settled);
        }
        self.judge(page, outcome)
    }

    fn fill(&self, page: u64, removed: bool, bytes: &[u8]) -> Outcome {
        let quiet = self.has(Flaw::WakeForgotten);
        if removed {
            let mode = if quiet { ZeropageMode::DONTWAKE } else { ZeropageMode::empty() };
            let mode = match self.has(Flaw::FlagsMixed) {
                true => ZeropageMode::from_bits_retain(CopyMode::WP.bits()),
                false => mode,
            };
            return self.uffd.zeropage(span(page), mode);
        }
        let mode = if quiet { CopyMode::DONTWAKE } else { CopyMode::empty() };
        self.uffd.copy(span(page), bytes, mode)
    }

    fn judge(&self, page: u64, outcome: Outcome) -> Came {
        let progress = outcome.field != shims::Field::Bytes(0);
        if self.has(Flaw::FieldAsProgress) && progress {
            return Came::Served;
        }
        match outcome.verdict() {
            Verdict::Done => {
                self.desk.lock().unwrap().installed.insert(page);
                Came::Served
            }
            Verdict::Present if self.has(Flaw::ExistEndsWorker) => Came::Gone,
            Verdict::Present if self.has(Flaw::ExistNotWoken) => Came::Served,
            Verdict::Present if self.has(Flaw::ExistFatal) => {
                Came::Failed(format!("page {page}: {outcome}"))
            }
            Verdict::NoMapping if self.has(Flaw::NoEntryFatal) => {
                Came::Failed(format!("page {page}: {outcome}"))
            }
            Verdict::Present | Verdict::NoMapping => {
                let _ = self.uffd.wake(span(page));
                Came::Served
            }
            Verdict::Changing if self.has(Flaw::ChangingFatal) => {
                Came::Failed(format!("page {page}: {outcome}"))
            }
            Verdict::Changing if self.has(Flaw::ChangingLost) => Came::Served,
            Verdict::Changing => Came::Later,
            Verdict::Dead if self.has(Flaw::DeadFatal) => {
                Came::Failed(format!("page {page}: {outcome}"))
            }
            Verdict::Dead => Came::Served,
            Verdict::Failed(Errno::ENOMEM) if !self.has(Flaw::NoMemoryFatal) => Came::Later,
            Verdict::Partial(_) | Verdict::Failed(_) => {
                Came::Failed(format!("page {page}: {outcome}"))
            }
        }
    }
}

fn span(page: u64) -> Span {
    Span::new(page_addr(page), Len::new(PAGE as u64))
}
