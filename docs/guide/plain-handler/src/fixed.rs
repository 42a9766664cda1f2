//! The same handler after the fix: messages are read, and source bytes installed, under one lock.

use std::collections::BTreeSet;
use std::time::Duration;

use shims::{Addr, CopyMode, Errno, Event, PageRange, PageSize, Span, Uffd, Verdict, Waiter};

use crate::os::{Arc, Mutex, mpsc, thread};

/// Serve the faults of `memory` until reading fails. `source` fills a page's buffer.
pub fn serve<U, S>(uffd: U, waiter: impl Waiter, memory: PageRange, source: S) -> Result<(), Errno>
where
    U: Uffd + Clone + Send + 'static,
    S: Fn(u64, &mut [u8]) + Clone + Send + 'static,
{
    let removed = Arc::new(Mutex::new(BTreeSet::new()));
    let (send, receive) = mpsc::channel();
    let receive = Arc::new(Mutex::new(receive));
    for _ in 0..2 {
        let (uffd, source) = (uffd.clone(), source.clone());
        let (removed, receive) = (Arc::clone(&removed), Arc::clone(&receive));
        thread::spawn(move || {
            loop {
                let next = receive.lock().unwrap().recv();
                let Ok(page) = next else { return };
                install(&uffd, memory, &source, &removed, page);
            }
        });
    }
    let mut events = Vec::new();
    loop {
        waiter.wait(None)?;
        // Reading a REMOVE lets the remover go on. No install may be under way meanwhile that
        // was decided before.
        let mut removed = removed.lock().unwrap();
        match uffd.read_events(&mut events, 64) {
            Ok(_) | Err(Errno::EAGAIN) => {}
            Err(errno) => return Err(errno),
        }
        for event in &events {
            if let Event::Remove(span) = event {
                removed.extend(pages(memory, *span));
            }
        }
        drop(removed);
        for event in events.drain(..) {
            if let Event::Fault(fault) = event {
                let page = pages(memory, Span::new(fault.addr, PageSize::KIB4.len())).start;
                send.send(page).expect("the workers outlive the reader");
            }
        }
    }
}

/// Install one page: zeros if it was removed, its bytes of the source otherwise.
fn install<U: Uffd>(
    uffd: &U,
    memory: PageRange,
    source: &impl Fn(u64, &mut [u8]),
    removed: &Mutex<BTreeSet<u64>>,
    page: u64,
) {
    let start = Addr::new(memory.start().raw() + page * 4096);
    let dst = Span::new(start, PageSize::KIB4.len());
    let mut bytes = vec![0; 4096];
    source(page, &mut bytes);
    loop {
        let removed = removed.lock().unwrap();
        if removed.contains(&page) {
            bytes.fill(0);
        }
        let verdict = uffd.copy(dst, &bytes, CopyMode::empty()).verdict();
        drop(removed);
        match verdict {
            Verdict::Done => return,
            // The address space is changing: somebody reads the message that says how.
            Verdict::Changing => thread::sleep(Duration::from_millis(1)),
            // Somebody else installed it, or it is gone. The faulter may be asleep all the same.
            _ => {
                let _ = uffd.wake(dst);
                return;
            }
        }
    }
}

fn pages(memory: PageRange, span: Span) -> std::ops::Range<u64> {
    let start = (span.start.raw() - memory.start().raw()) / 4096;
    start..start + span.len.bytes() / 4096
}
