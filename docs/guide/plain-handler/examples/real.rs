//! The handler on the running kernel: two pages, read by the thread that is served. It needs a
//! userfaultfd; see README.md, "The real kernel".

#[cfg(target_os = "linux")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    use std::sync::Arc;

    use shims::linux::{Mapping, OpenFlags, PollWaiter, UserFault};
    use shims::{Features, Len, RegisterModes, Uffd as _};

    let memory = Mapping::anonymous(Len::new(2 * 4096))?;
    let (uffd, _) = UserFault::connect(OpenFlags::empty(), Features::EVENT_REMOVE)?;
    uffd.register(memory.span(), RegisterModes::MISSING)?;
    let uffd = Arc::new(uffd);
    let waiter = PollWaiter::new(Arc::clone(&uffd))?;
    let range = memory.page_range();
    let fill = |page, buf: &mut [u8]| buf.fill(page as u8 + 1);
    std::thread::spawn(move || plain_handler::fixed::serve(uffd, waiter, range, fill));
    println!("{} {}", memory.read_byte(0), memory.read_byte(4096));
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn main() {}
