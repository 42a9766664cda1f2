//! Pages that leave a memory file: holes, shorter files, `MADV_REMOVE` (rules d12, d13, f3).
//! What a comment calls measured was seen on 6.18.

use shims::{Errno, Event, Features, Outcome, RegisterModes, WriteProtectMode};
use sim::Content;
use sim::kernel::{Call, Did, Marker, Pte, Ret, Signal};
use sim::vma::{Mmap, Prot};

use crate::support::memory::{ALIAS, Memory, PRIVATE, SHARED, SHMEM};
use crate::support::{page, source, span};

const MISSING: RegisterModes = RegisterModes::MISSING;
const WP: RegisterModes = RegisterModes::WP;
const MARKER: Pte = Pte::Marker(Marker::WriteProtect);
const ONE: Content = Content::Bytes(1);
const TWO: Content = Content::Bytes(2);

fn memory(how: sim::vma::MapFlags, modes: RegisterModes) -> Memory {
    Memory::new(SHMEM, how, 8, Features::EVENT_REMOVE, modes)
}

#[test]
fn d13_v48_a_hole_is_nobodys_event_and_takes_the_page_from_everybody() {
    let mut memory = memory(SHARED, MISSING);
    let thread = memory.bed.thread();
    memory.bed.copy(0, 4);
    memory.put(1, ONE);
    assert_eq!(memory.punch(1, 3), Ret::Ok(0));
    assert_eq!(memory.bed.read(8), [], "no event");
    let there = |n| (memory.cached(n).is_some(), memory.bed.pte(n).is_present());
    assert_eq!(
        [0, 1, 2, 3].map(there),
        [(true, true), (false, false), (false, false), (true, true)]
    );
    assert!(memory.bed.pte(ALIAS + 1).is_none());
    // It is missing again, and an install of the same page is welcome.
    assert_eq!(memory.bed.load(thread, 1), None);
    assert_eq!(memory.bed.copy(1, 2), Outcome::done(4096));
    assert_eq!(memory.bed.on(thread), Some(Ret::Loaded(source(1))));
}

#[test]
fn a_hole_leaves_private_copies_and_the_end_of_the_file_does_not() {
    let mut memory = memory(PRIVATE, MISSING);
    let thread = memory.bed.thread();
    let zero = memory.zero(0, 1);
    assert_eq!(zero, Outcome::done(4096));
    memory.bed.copy(1, 2);
    memory.put(2, ONE);
    memory.bed.load(thread, 2);
    memory.put(3, ONE);
    memory.bed.store(thread, 3);
    memory.poison(4, 5);
    memory.punch(0, 8);
    let present = |memory: &Memory| [0, 1, 2, 3].map(|n| memory.bed.pte(n).is_present());
    // Measured: the shared zero page is no copy.
    assert_eq!(present(&memory), [false, true, false, true]);
    assert_eq!(memory.bed.pte(4), Pte::Marker(Marker::Poison), "measured: poison stays");
    assert_eq!(memory.truncate(0), Ret::Ok(0));
    assert_eq!(present(&memory), [false; 4]);
    assert_eq!(memory.bed.pte(4), Pte::None);
    assert_eq!(memory.bed.load(thread, 1), Some(Ret::Signal(Signal::BusAdrErr)));
    // Longer again: there is nothing in what was cut off.
    memory.truncate(8);
    assert_eq!(memory.bed.load(thread, 1), None);
}

#[test]
fn f3_v59_holes_and_shorter_files_leave_the_protection_behind() {
    for how in [SHARED, PRIVATE] {
        let mut memory = memory(how, WP);
        let thread = memory.bed.thread();
        memory.put(0, ONE);
        memory.put(2, ONE);
        for n in [0, 2] {
            memory.bed.load(thread, n);
        }
        memory.bed.store(thread, 3);
        memory.bed.protect(0, 4, WriteProtectMode::WP);
        memory.punch(0, 2);
        assert_eq!((memory.bed.pte(0), memory.bed.pte(1)), (MARKER, MARKER));
        memory.truncate(2);
        assert_eq!((memory.bed.pte(2), memory.bed.pte(3)), (MARKER, MARKER));
        memory.truncate(8);
        assert_eq!(memory.bed.store(thread, 2), None, "the next write is trapped");
    }
}

#[test]
fn c4_a_file_that_gets_shorter_refuses_what_lies_beyond_at_once() {
    let mut memory = memory(SHARED, MISSING);
    let (cutter, thread) = (memory.bed.thread(), memory.bed.thread());
    memory.bed.copy(4, 6);
    let file = memory.file.id;
    memory.bed.kernel.begin(cutter, Call::Ftruncate { file, size: 4 * 4096 });
    assert_eq!(memory.bed.step(cutter), Did::Resize { size: 4 * 4096 });
    // What is mapped can be used until its turn comes; nothing can be added any more.
    assert_eq!(memory.bed.load(thread, 5), Some(Ret::Loaded(source(5))));
    assert_eq!(memory.bed.copy(6, 7), Outcome::mirrored(Errno::EFAULT));
    assert_eq!(memory.bed.step(cutter), Did::Drop { index: 4, content: Some(source(4)) });
    assert_eq!(memory.bed.load(thread, 4), Some(Ret::Signal(Signal::BusAdrErr)));
    assert_eq!(memory.bed.load(thread, 5), Some(Ret::Loaded(source(5))));
    assert_eq!(memory.bed.on(cutter), Some(Ret::Ok(0)));
    assert_eq!(memory.bed.load(thread, 5), Some(Ret::Signal(Signal::BusAdrErr)));
}

#[test]
fn what_arguments_are_refused() {
    let mut memory = memory(SHARED, MISSING);
    let (file, thread) = (memory.file.id, memory.bed.thread());
    let run = |memory: &mut Memory, call| memory.bed.kernel.run(thread, call);
    let punch = |start, len| Call::Punch { file, start, len };
    assert_eq!(run(&mut memory, punch(0, 0)), Ret::Err(Errno::EINVAL));
    assert_eq!(run(&mut memory, punch(4096, i64::MAX as u64)), Ret::Err(Errno::EFBIG));
    assert_eq!(run(&mut memory, punch(9 * 4096, 4096)), Ret::Ok(0), "beyond the end");
    let none = sim::vma::FileId(7);
    let call = Call::Ftruncate { file: none, size: 0 };
    assert_eq!(run(&mut memory, call), Ret::Err(Errno::EBADF));
}

#[test]
fn d12_v48_madv_remove_tells_the_owner_of_the_mapping_it_names_and_nobody_else() {
    let mut memory = memory(SHARED, MISSING);
    let (remover, thread) = (memory.bed.thread(), memory.bed.thread());
    memory.bed.copy(0, 3);
    assert_eq!(memory.bed.go(remover, Call::RemoveFile { range: span(0, 2) }), None);
    // d7: what is to go is still there while the event is unread.
    assert_eq!(memory.bed.load(thread, 1), Some(Ret::Loaded(source(1))));
    assert_eq!(memory.bed.copy(5, 6), Outcome::mirrored(Errno::EAGAIN));
    assert_eq!(memory.bed.read(8), [Event::Remove(span(0, 2))]);
    assert_eq!(memory.bed.on(remover), Some(Ret::Ok(0)));
    assert_eq!([0, 1, 2].map(|n| memory.cached(n).is_some()), [false, false, true]);
    // Through the mapping nobody watches: no event, and the watched one loses its page.
    let call = Call::RemoveFile { range: span(ALIAS + 2, ALIAS + 3) };
    assert_eq!(memory.bed.go(remover, call), Some(Ret::Ok(0)));
    assert_eq!(memory.bed.read(8), []);
    assert!(memory.bed.pte(2).is_none() && memory.cached(2).is_none());
}

#[test]
fn d12_the_hole_is_where_the_mapping_was_whatever_the_wait_has_changed() {
    let mut memory = memory(SHARED, MISSING);
    let (remover, other) = (memory.bed.thread(), memory.bed.thread());
    memory.bed.copy(0, 2);
    assert_eq!(memory.bed.go(remover, Call::RemoveFile { range: span(0, 2) }), None);
    memory.bed.go(other, Call::Munmap { range: span(0, 2) });
    assert_eq!(memory.bed.read(8).len(), 1);
    assert_eq!(memory.bed.on(remover), Some(Ret::Ok(0)));
    assert_eq!((memory.cached(0), memory.cached(1)), (None, None));
}

#[test]
fn d10_what_madv_remove_refuses_before_any_event() {
    let mut memory = memory(SHARED, MISSING);
    let thread = memory.bed.thread();
    let run = |memory: &mut Memory, start, end| {
        memory.bed.go(thread, Call::RemoveFile { range: span(start, end) })
    };
    let anon = Mmap::fixed(page(100).raw(), 4096, Prot::RW);
    memory.bed.kernel.run(thread, Call::Mmap(anon));
    assert_eq!(run(&mut memory, 100, 101), Some(Ret::Err(Errno::EINVAL)));
    memory.map(110, 4, 0, PRIVATE);
    memory.bed.register(110, 114, MISSING);
    assert_eq!(run(&mut memory, 110, 111), Some(Ret::Err(Errno::EACCES)));
    // Measured: a mapping that is protected against writing will do, one that can never be
    // written will not.
    memory.put(4, TWO);
    let range = span(ALIAS + 4, ALIAS + 5);
    memory.bed.kernel.run(thread, Call::Mprotect { range, prot: Prot::READ });
    assert_eq!(run(&mut memory, ALIAS + 4, ALIAS + 5), Some(Ret::Ok(0)));
    assert_eq!(memory.cached(4), None);
    let read_only = Mmap::file(memory.file.read_only(), 0, 4096, Prot::READ, SHARED);
    memory.bed.kernel.run(thread, Call::Mmap(read_only.at(page(120).raw())));
    assert_eq!(run(&mut memory, 120, 121), Some(Ret::Err(Errno::EACCES)));
    assert_eq!(memory.bed.read(8), []);
    // A gap is ENOMEM, after the rest is done.
    memory.put(7, ONE);
    assert_eq!(run(&mut memory, ALIAS + 7, ALIAS + 9), Some(Ret::Err(Errno::ENOMEM)));
    assert_eq!(memory.cached(7), None);
}
