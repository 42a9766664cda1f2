//! Calls that fail and have announced themselves all the same: rule d16.

use shims::{Errno, Event, Features, Outcome, Verdict};
use sim::Profile;
use sim::kernel::{Call, Ret};
use sim::vma::{Mmap, Prot};

use crate::support::{Bed, page, span};

fn bed(features: Features) -> Bed {
    Bed::with(8, Profile::default(), features)
}

fn seal(bed: &mut Bed, start: u64, end: u64) {
    let thread = bed.thread();
    assert_eq!(bed.go(thread, Call::Mseal { range: span(start, end) }), Some(Ret::Ok(0)));
}

fn replace(start: u64, pages: u64) -> Call {
    Call::Mmap(Mmap::fixed(page(start).raw(), pages * 4096, Prot::RW))
}

#[test]
fn d16_munmap_that_meets_a_seal_is_told_and_then_refused() {
    let mut bed = bed(Features::EVENT_UNMAP);
    bed.copy(0, 4);
    seal(&mut bed, 2, 3);
    let thread = bed.thread();
    assert_eq!(bed.go(thread, Call::Munmap { range: span(0, 3) }), None);
    assert_eq!(bed.copy(4, 5).verdict(), Verdict::Changing);
    assert_eq!(bed.read(8), [Event::Unmap(span(0, 3))]);
    assert_eq!(bed.on(thread), Some(Ret::Err(Errno::EPERM)));
    assert_eq!(bed.kernel.table(bed.mm).present(), 4, "nothing is gone");
    assert_eq!(bed.copy(4, 5), Outcome::done(4096));
}

#[test]
fn d16_a_sealed_first_mapping_is_refused_in_silence() {
    let mut bed = bed(Features::EVENT_UNMAP);
    seal(&mut bed, 0, 1);
    let thread = bed.thread();
    let refused = Some(Ret::Err(Errno::EPERM));
    assert_eq!(bed.go(thread, Call::Munmap { range: span(0, 3) }), refused);
    assert_eq!(bed.go(thread, replace(0, 3)), refused);
    assert_eq!(bed.read(8), []);
}

#[test]
fn d16_without_the_feature_nobody_is_told() {
    let mut bed = bed(Features::empty());
    seal(&mut bed, 2, 3);
    let thread = bed.thread();
    let refused = Some(Ret::Err(Errno::EPERM));
    assert_eq!(bed.go(thread, Call::Munmap { range: span(0, 3) }), refused);
}

#[test]
fn d16_mmap_over_a_seal_and_beyond_the_address_space_limit() {
    let mut bed = bed(Features::EVENT_UNMAP);
    seal(&mut bed, 2, 3);
    let thread = bed.thread();
    assert_eq!(bed.go(thread, replace(1, 2)), None);
    assert_eq!(bed.read(8), [Event::Unmap(span(1, 3))]);
    assert_eq!(bed.on(thread), Some(Ret::Err(Errno::EPERM)));

    let mapped = bed.kernel.space(bed.mm).total_pages() * 4096;
    bed.kernel.limits_mut(bed.mm).rlimit_as = mapped;
    assert_eq!(bed.go(thread, replace(6, 3)), None, "one page more than it replaces");
    assert_eq!(bed.read(8), [Event::Unmap(span(6, 9))]);
    assert_eq!(bed.on(thread), Some(Ret::Err(Errno::ENOMEM)));
    let there = bed.kernel.space(bed.mm).find(page(6)).and_then(|vma| vma.uffd());
    assert_eq!(there, Some(bed.ctx), "nothing was replaced");
    // A range with nothing in it has nobody to tell.
    assert_eq!(bed.go(thread, replace(9, 1)), Some(Ret::Err(Errno::ENOMEM)));
}

#[test]
fn d16_the_limit_on_mappings_is_looked_at_before_anybody_is_noted() {
    let mut bed = bed(Features::EVENT_UNMAP);
    let thread = bed.thread();
    let count = bed.kernel.space(bed.mm).map_count();
    bed.kernel.limits_mut(bed.mm).max_map_count = count;
    let refused = Some(Ret::Err(Errno::ENOMEM));
    assert_eq!(bed.go(thread, Call::Munmap { range: span(3, 5) }), refused);
    bed.kernel.limits_mut(bed.mm).max_map_count = count - 1;
    assert_eq!(bed.go(thread, replace(0, 8)), refused);
    assert_eq!(bed.read(8), []);
}
