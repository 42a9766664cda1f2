//! Our `threads` driver on coroutines, without a change: its own locks and conditions are
//! searched, where `model.rs` repeats its steps by hand. Owns the glue alone.

use std::num::NonZeroUsize;

use handler::{Driver, PageSource, Policy, RegionMap, SourceError, Status, Writes};
use shims::{Features, PageNo, PageSize};
use sim::coop::{Bed, Coop, Source};
use sim::kernel::PAGE;
use sim::sync::{Simulated, thread};
use sim::world::{Mishap, Setup};

/// The source of a world as a source of the handler.
#[derive(Clone, Copy, Debug)]
struct Pages(Source);

impl PageSource for Pages {
    fn page_size(&self) -> PageSize {
        PAGE
    }

    fn read_page(&self, page: PageNo, buf: &mut [u8]) -> Result<(), SourceError> {
        let whole = PAGE.bytes() as usize;
        let offset = page.index() * PAGE.bytes();
        match self.0.try_read_page(page.index(), buf) {
            Ok(count) if count == whole => Ok(()),
            Ok(count) => {
                let (expected, found) = (offset + PAGE.bytes(), offset + count as u64);
                Err(SourceError::Shrunk { offset, expected, found })
            }
            Err(errno) => Err(SourceError::Io { offset, errno }),
        }
    }
}

/// The driver with `policy`, for the world of `setup`. It has no controls: a scenario that
/// uses them waits for ever.
pub fn threads(mut policy: Policy, setup: &Setup) -> Coop {
    if setup.tracks_writes() {
        policy.writes = Writes::Tracked;
    }
    policy.remaps |= setup.features.contains(Features::EVENT_REMAP);
    let workers = NonZeroUsize::new(setup.workers).unwrap_or(NonZeroUsize::MIN);
    let stops = setup.mishaps.times(Mishap::Shutdown) > 0;
    let main = move |bed: Bed| {
        let regions = RegionMap::single(bed.memory());
        let (uffd, waiter, source) = (bed.uffd(), bed.waiter(), Pages(bed.source()));
        let driver: Driver<_, _, _, Simulated> =
            Driver::on_runtime(policy.clone(), regions, uffd, waiter, source)
                .expect("the source's pages are those of the memory");
        if stops {
            let control = driver.control();
            let stop = move || {
                bed.until_stopped();
                control.stop();
            };
            let stopper = thread::Builder::new().name("owner".to_owned());
            stopper.spawn(stop).map_err(|error| error.to_string())?;
        }
        match driver.run_threads(workers).status {
            Status::Failed(error) => Err(error.to_string()),
            _ => Ok(()),
        }
    };
    Coop::new(setup, main).threads(1 + workers.get() + usize::from(stops))
}
