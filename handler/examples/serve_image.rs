//! Serve a file as memory: register a region, let the threaded driver answer its faults,
//! touch some pages, give one up, and print what a snapshot says.
//!
//! ```text
//! cargo run -p faultbed-handler --features linux --example serve_image -- IMAGE
//! ```
//!
//! The image is any file of whole 4 KiB pages. This process serves itself, which is fine
//! for as long as the threads that serve never touch the region.

use std::error::Error;
use std::num::NonZeroUsize;
use std::process::ExitCode;

use faultbed_handler::{Control, Driver, ImageFile, Policy, RegionMap, Status, StopReason};
use shims::linux::{Mapping, OpenFlags, PollWaiter, UserFault};
use shims::{Features, Len, PageSize, RegisterModes, Uffd, Waiter};

fn main() -> ExitCode {
    let Some(path) = std::env::args_os().nth(1) else {
        eprintln!("usage: serve_image IMAGE");
        return ExitCode::from(2);
    };
    match run(path.as_ref()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("serve_image: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(path: &std::path::Path) -> Result<(), Box<dyn Error>> {
    let image = ImageFile::open(path, PageSize::KIB4)?;

    // Memory that nobody has touched, and a userfaultfd that watches it.
    let memory = Mapping::anonymous(Len::new(image.len()))?;
    let (uffd, _) = UserFault::connect(OpenFlags::empty(), Features::EVENT_REMOVE)?;
    uffd.register(memory.span(), RegisterModes::MISSING)?;

    let regions = RegionMap::single(memory.page_range());
    let waiter = PollWaiter::new(&uffd)?;
    let driver = Driver::new(Policy::default(), regions, &uffd, waiter, image)?;
    let control = driver.control();

    std::thread::scope(|scope| {
        scope.spawn(|| {
            let report = driver.run_threads(NonZeroUsize::MIN.saturating_add(1));
            let counters = report.counters;
            println!("{}: {} faults, {} fetched", report.status, counters.faults, counters.fetches);
            if report.status != Status::Stopped(StopReason::Requested) {
                // The handler failed, and whoever waits for a page waits for ever. What
                // to do about that is its owner's decision; a monitor would end its guest.
                std::process::exit(1);
            }
        });
        let outcome = touch(&memory, &control);
        control.stop();
        outcome
    })
}

/// What a client would do with its memory.
fn touch<W: Waiter>(memory: &Mapping, control: &Control<W>) -> Result<(), Box<dyn Error>> {
    // The first touch of a page brings its bytes in; after that it is plain memory.
    let first = memory.read_byte(0);
    let last = memory.read_byte(memory.len().bytes() - 1);
    println!("the first byte is {first:#04x}, the last is {last:#04x}");
    memory.write_byte(0, !first);

    // A page that is given up reads as zeros and not as the image.
    memory.dontneed(0, 4096)?;
    println!("given up, the first byte is {:#04x}", memory.read_byte(0));

    print!("{}", control.snapshot()?);
    Ok(())
}
