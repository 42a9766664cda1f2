//! What holds after any sequence of calls.

use proptest::prelude::*;
use shims::{Addr, Len, RegisterModes, Span};

use super::super::merge;
use super::super::{
    AddressSpace, Advice, CtxId, FileId, FileKind, MapFile, MapFlags, Mmap, Mremap, PolicyId, Prot,
    RemapFlags, Rules, Vma, VmaFlags,
};
use super::language::addr;

const PAGES: u64 = 24;

#[derive(Clone, Debug)]
enum Step {
    Map(u64, u64, Prot, u8),
    Unmap(u64, u64),
    Protect(u64, u64, Prot),
    Advise(u64, u64, Advice),
    Write(u64),
    Lock(u64, u64, bool),
    Seal(u64),
    Bind(u64, u64, u16),
    Register(u32, u64, u64),
    Unregister(u32, u64, u64),
    Release(u32),
    Remap(u64, u64, u64, u64, u8),
    Fork,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let range = || (0..PAGES - 1).prop_flat_map(|at| (Just(at), 1..=(PAGES - at).min(8)));
    let prot = || prop_oneof![3 => Just(Prot::RW), 1 => Just(Prot::READ), 1 => Just(Prot::NONE)];
    let advice = prop_oneof![
        Just(Advice::DontFork),
        Just(Advice::DoFork),
        Just(Advice::WipeOnFork),
        Just(Advice::KeepOnFork),
        Just(Advice::GuardInstall),
    ];
    let step = prop_oneof![
        6 => (range(), prot(), 0..6u8).prop_map(|((at, len), prot, how)| Step::Map(at, len, prot, how)),
        4 => range().prop_map(|(at, len)| Step::Unmap(at, len)),
        4 => (range(), prot()).prop_map(|((at, len), prot)| Step::Protect(at, len, prot)),
        2 => (range(), advice).prop_map(|((at, len), advice)| Step::Advise(at, len, advice)),
        4 => (0..PAGES).prop_map(Step::Write),
        1 => (range(), any::<bool>()).prop_map(|((at, len), on)| Step::Lock(at, len, on)),
        1 => (0..PAGES).prop_map(Step::Seal),
        1 => (range(), 0..2u16).prop_map(|((at, len), to)| Step::Bind(at, len, to)),
        3 => (0..2u32, range()).prop_map(|(ctx, (at, len))| Step::Register(ctx, at, len)),
        2 => (0..2u32, range()).prop_map(|(ctx, (at, len))| Step::Unregister(ctx, at, len)),
        1 => (0..2u32).prop_map(Step::Release),
        3 => (range(), range(), 0..8u8)
            .prop_map(|((old, len), (new, other), how)| Step::Remap(old, len, new, other, how)),
        1 => Just(Step::Fork),
    ];
    prop::collection::vec(step, 1..40)
}

fn request(at: u64, len: u64, prot: Prot, how: u8) -> Mmap {
    let file = MapFile::rw(FileId(1), FileKind::Shmem);
    let plain = Mmap::fixed(addr(at), len << 12, prot);
    match how {
        0 => plain.shared(),
        1 => Mmap { file: Some(file), offset: at << 12, ..plain },
        2 => plain.with(MapFlags::NORESERVE),
        3 => plain.with(MapFlags::FIXED_NOREPLACE),
        _ => plain,
    }
}

fn perform(space: &mut AddressSpace, step: &Step) {
    let bytes = |pages: u64| pages << 12;
    let span = |at: u64, len: u64| Span::new(Addr::new(addr(at)), Len::new(bytes(len)));
    let missing = RegisterModes::MISSING;
    let _ = match *step {
        Step::Map(at, len, prot, how) => {
            space.mmap(&request(at, len, prot, how)).map(|_| ()).map_err(|refused| refused.errno)
        }
        Step::Unmap(at, len) => {
            space.munmap(addr(at), bytes(len)).map(|_| ()).map_err(|refused| refused.errno)
        }
        Step::Protect(at, len, prot) => space.mprotect(addr(at), bytes(len), prot),
        Step::Advise(at, len, advice) => space.madvise(addr(at), bytes(len), advice),
        Step::Write(at) => {
            space.note_anon_fault(Addr::new(addr(at)));
            Ok(())
        }
        Step::Lock(at, len, true) => space.mlock(addr(at), bytes(len), false),
        Step::Lock(at, len, false) => space.munlock(addr(at), bytes(len)),
        Step::Seal(at) => space.mseal(addr(at), bytes(1)),
        Step::Bind(at, len, to) => space.mbind(addr(at), bytes(len), PolicyId(to)),
        Step::Register(ctx, at, len) => {
            space.uffd_register(span(at, len), CtxId(ctx), missing, false)
        }
        Step::Unregister(ctx, at, len) => {
            space.uffd_unregister(span(at, len), CtxId(ctx)).map(|_| ())
        }
        Step::Release(ctx) => {
            space.uffd_release(CtxId(ctx));
            Ok(())
        }
        Step::Remap(old, old_len, new, new_len, how) => {
            let flags = RemapFlags::from_bits_retain(u64::from(how));
            let (old, new) = (addr(old), addr(new));
            let (old_len, new_len) = (bytes(old_len), bytes(new_len));
            let request = Mremap { old, old_len, new_len, flags, new };
            space.mremap(&request, |ctx| ctx.0 == 0).result.map(|_| ())
        }
        Step::Fork => {
            *space = space.fork(|ctx| (ctx.0 == 0).then_some(CtxId(0)));
            Ok(())
        }
    };
}

fn rules() -> impl Strategy<Value = Rules> {
    prop_oneof![Just(Rules::LINUX_6_12), Just(Rules::LINUX_6_18), Just(Rules::LINUX_7_1)]
}

fn after(rules: Rules, steps: &[Step]) -> AddressSpace {
    let mut space = AddressSpace::new(rules);
    for step in steps {
        perform(&mut space, step);
        assert_eq!(space.validate(), Ok(()), "after {step:?}: {space}");
    }
    space
}

/// What a program can see of the VMAs.
fn visible(space: &AddressSpace) -> Vec<(Addr, Addr, VmaFlags, Option<CtxId>)> {
    space.iter().map(|vma| (vma.start(), vma.end(), vma.flags(), vma.uffd())).collect()
}

/// A mapped page: its number, and what a call may change about it.
type Page = (u64, VmaFlags, Option<CtxId>, PolicyId);

/// Each mapped page in address order.
fn by_page(space: &AddressSpace) -> Vec<Page> {
    let mut pages = Vec::new();
    for vma in space.iter() {
        let (from, to) = (vma.start().raw() - addr(0), vma.end().raw() - addr(0));
        let page = |page| (page, vma.flags(), vma.uffd(), vma.policy());
        pages.extend((from >> 12..to >> 12).map(page));
    }
    pages
}

/// Where a call that walks over a range may stop before its end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Walk {
    StopsAtHoles,
    PassesHoles,
}

/// Are the pages of `range` as asked from its start up to where the call stopped, and all others
/// as they were?
fn changed_up_to(
    (before, now): (&[Page], &[Page]),
    range: core::ops::Range<u64>,
    walk: Walk,
    as_asked: impl Fn(&Page) -> bool,
) -> bool {
    let mut next = range.start;
    let mut stopped = false;
    now.len() == before.len()
        && now.iter().zip(before).all(|(now, old)| {
            if !range.contains(&now.0) {
                return now == old;
            }
            stopped |= !as_asked(now) || (walk == Walk::StopsAtHoles && now.0 > next);
            next = now.0 + 1;
            now.0 == old.0 && (now == old || !stopped)
        })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn every_sequence_leaves_a_valid_tree_that_reads_back(rules in rules(), steps in steps()) {
        let space = after(rules.clone(), &steps);
        let text = space.to_string();
        let again = AddressSpace::from_layout(rules, Addr::ZERO, &text).unwrap();
        prop_assert!(again.iter().eq(space.iter()), "{}", text);
        prop_assert_eq!(again.validate(), Ok(()));
    }

    /// What has just been mapped has joined all it could: where it still begins or ends, it
    /// would not join what lies there.
    #[test]
    fn a_new_mapping_leaves_no_neighbour_it_could_have_joined(
        rules in rules(), steps in steps(), at in 0..PAGES - 4, len in 1..4u64,
    ) {
        let mut space = after(rules, &steps);
        if space.mmap(&Mmap::fixed(addr(at), len << 12, Prot::RW)).is_ok() {
            let cursor = space.tree.seek(addr(at));
            let vma = cursor.get().unwrap();
            let prev = cursor.prev().filter(|_| vma.start == addr(at));
            let next = cursor.nth(1).filter(|_| vma.end == addr(at + len));
            prop_assert_eq!(merge::new_range(&space.rules, prev, vma, next), None);
        }
    }

    /// A call that changes a range joins what it can, too: at each border of a VMA where it has
    /// changed something, the two would not be one. Where identities are involved, what one of
    /// them takes over later may fit, and nobody looks again; that is left out.
    #[test]
    fn a_change_leaves_no_neighbour_it_could_have_joined(
        rules in rules(), steps in steps(), at in 0..PAGES - 4, len in 1..12u64, how in 0..4u8,
    ) {
        let mut space = after(rules, &steps);
        let before = by_page(&space);
        let (start, bytes) = (addr(at), len << 12);
        let span = Span::new(Addr::new(start), Len::new(bytes));
        let done = match how {
            0 => space.mprotect(start, bytes, Prot::READ),
            1 => space.madvise(start, bytes, Advice::DontFork),
            2 => space.mbind(start, bytes, PolicyId(1)),
            _ => space.uffd_register(span, CtxId(1), RegisterModes::MISSING, false),
        };
        let now = by_page(&space);
        let changed = |page: u64| {
            let of = |pages: &[Page]| pages.iter().find(|known| known.0 == page).copied();
            of(&now) != of(&before)
        };
        let vmas: Vec<Vma> = space.iter().copied().collect();
        for two in vmas.windows(2).filter(|_| done.is_ok()) {
            let border = (two[0].end - addr(0)) >> 12;
            let touched = two[0].end == two[1].start && (changed(border - 1) || changed(border));
            if touched && two[0].anon.is_none() && two[1].anon.is_none() {
                let joined =
                    merge::existing_range(&space.rules, Some(&two[0]), &two[1], &two[1], None);
                prop_assert_eq!(joined, None, "{}", space);
            }
        }
    }

    #[test]
    fn mapping_a_hole_and_unmapping_it_changes_nothing_one_can_see(
        rules in rules(), steps in steps(), at in 0..PAGES - 4, len in 1..4u64,
    ) {
        let mut space = after(rules, &steps);
        let before = visible(&space);
        let free = Mmap::fixed(addr(at), len << 12, Prot::RW).with(MapFlags::FIXED_NOREPLACE);
        if space.mmap(&free).is_ok() {
            space.munmap(addr(at), len << 12).unwrap();
            // A guard mark of one neighbour may have stuck to the other.
            let plain = |all: Vec<(Addr, Addr, VmaFlags, Option<CtxId>)>| -> Vec<_> {
                let unmarked = |f: VmaFlags| f.difference(VmaFlags::MAYBE_GUARD);
                all.into_iter().map(|(a, b, f, c)| (a, b, unmarked(f), c)).collect()
            };
            prop_assert_eq!(plain(visible(&space)), plain(before));
        }
    }

    #[test]
    fn unmapping_leaves_nothing_there_and_everything_else(
        rules in rules(), steps in steps(), at in 0..PAGES - 4, len in 1..8u64,
    ) {
        let mut space = after(rules, &steps);
        let (start, end) = (addr(at), addr(at + len));
        let before = space.clone();
        if let Ok(removed) = space.munmap(start, end - start) {
            let pages = |space: &AddressSpace| -> Vec<(u64, Vma)> {
                (0..PAGES + 8)
                    .filter_map(|page| {
                        let vma = *space.find(Addr::new(addr(page)))?;
                        Some((page, vma.part(addr(page), addr(page + 1))))
                    })
                    .collect()
            };
            let mut expected = pages(&before);
            expected.retain(|(page, _)| !(at..at + len).contains(page));
            prop_assert_eq!(pages(&space), expected);
            let gone: u64 = removed.spans().map(|span| span.len.bytes() >> 12).sum();
            prop_assert_eq!(before.total_pages() - space.total_pages(), gone);
        } else {
            // Only borders may have been added.
            prop_assert_eq!(space.total_pages(), before.total_pages());
        }
    }

    /// A loop that stops at a hole has done exactly what came before it.
    #[test]
    fn protecting_up_to_a_hole_is_protecting_what_is_below_it(
        rules in rules(), steps in steps(), at in 0..PAGES - 4, len in 1..12u64,
    ) {
        let mut space = after(rules, &steps);
        let mut prefix = space.clone();
        let hole = (at..at + len).find(|page| space.find(Addr::new(addr(*page))).is_none());
        if let (Some(hole), Err(_)) = (hole, space.mprotect(addr(at), len << 12, Prot::READ)) {
            let _ = prefix.mprotect(addr(at), (hole - at) << 12, Prot::READ);
            prop_assert_eq!(visible(&space), visible(&prefix));
        }
    }

    /// These are refused before anything changes, whatever is wrong.
    #[test]
    fn refused_whole_leaves_the_tree_alone(
        rules in rules(), steps in steps(), at in 0..PAGES - 4, len in 1..8u64,
    ) {
        let mut space = after(rules, &steps);
        let before = space.clone();
        let span = Span::new(Addr::new(addr(at)), Len::new(len << 12));
        let minor = RegisterModes::MINOR;
        if space.uffd_register(span, CtxId(9), minor, false).is_err() {
            prop_assert!(space == before);
        }
        space = before.clone();
        if space.mseal(addr(at), len << 12).is_err() {
            prop_assert!(space == before);
        }
        space = before.clone();
        let noreplace = Mmap::fixed(addr(at), len << 12, Prot::RW).with(MapFlags::FIXED_NOREPLACE);
        if space.mmap(&noreplace).is_err() {
            prop_assert!(space == before);
        }
        space = before.clone();
        let grow = Mremap {
            old: addr(at),
            old_len: len << 12,
            new_len: (len + 3) << 12,
            flags: RemapFlags::empty(),
            new: 0,
        };
        if space.mremap(&grow, |_| false).result.is_err() {
            prop_assert!(space == before);
        }
    }

    /// A call that fails half-way leaves cuts, and what it had changed up to there; not a page
    /// beyond that. What replaces or unmaps leaves cuts alone.
    #[test]
    fn what_fails_half_way_leaves_what_it_had_done(
        rules in rules(), steps in steps(), seal in 0..PAGES,
        at in 0..PAGES - 4, len in 1..12u64, room in 0..3usize,
    ) {
        let mut space = after(rules, &steps);
        let _ = space.mseal(addr(seal), 1 << 12);
        space.limits_mut().max_map_count = space.map_count() + room;
        let before = space.clone();
        let pages = by_page(&before);
        let (start, bytes) = (addr(at), len << 12);

        if space.munmap(start, bytes).is_err() {
            prop_assert_eq!(by_page(&space), pages.clone());
        }
        space = before.clone();
        if space.mmap(&Mmap::fixed(start, bytes, Prot::NONE)).is_err() {
            prop_assert_eq!(by_page(&space), pages.clone());
        }
        let stops = |space: &AddressSpace, walk, as_asked: &dyn Fn(&Page) -> bool| {
            changed_up_to((&pages, &by_page(space)), at..at + len, walk, as_asked)
        };
        space = before.clone();
        if space.mprotect(start, bytes, Prot::NONE).is_err() {
            let done = |page: &Page| !page.1.intersects(VmaFlags::ACCESS);
            prop_assert!(stops(&space, Walk::StopsAtHoles, &done));
        }
        space = before.clone();
        if space.mlock(start, bytes, true).is_err() {
            let done = |page: &Page| page.1.contains(VmaFlags::LOCKED);
            prop_assert!(stops(&space, Walk::StopsAtHoles, &done));
        }
        space = before.clone();
        if space.madvise(start, bytes, Advice::DontFork).is_err() {
            let done = |page: &Page| page.1.contains(VmaFlags::DONTCOPY);
            prop_assert!(stops(&space, Walk::PassesHoles, &done));
        }
        space = before.clone();
        if space.mbind(start, bytes, PolicyId(2)).is_err() {
            prop_assert!(stops(&space, Walk::PassesHoles, &|page| page.3 == PolicyId(2)));
        }
        let span = Span::new(Addr::new(start), Len::new(bytes));
        space = before.clone();
        if space.uffd_register(span, CtxId(1), RegisterModes::WP, false).is_err() {
            let done = |page: &Page| page.2 == Some(CtxId(1)) && page.1.contains(VmaFlags::UFFD_WP);
            prop_assert!(stops(&space, Walk::PassesHoles, &done));
        }
        space = before.clone();
        if space.uffd_unregister(span, CtxId(1)).is_err() {
            prop_assert!(stops(&space, Walk::PassesHoles, &|page| page.2.is_none()));
        }
        prop_assert_eq!(space.validate(), Ok(()));
    }

    #[test]
    fn a_clone_does_not_see_what_happens_to_the_original(
        rules in rules(), first in steps(), second in steps(),
    ) {
        let mut space = after(rules.clone(), &first);
        let (clone, text) = (space.clone(), space.to_string());
        second.iter().for_each(|step| perform(&mut space, step));
        prop_assert_eq!(clone.to_string(), text);
        prop_assert!(after(rules, &first) == clone);
    }

    /// Closing a context clears all of its registrations and none of another's.
    #[test]
    fn releasing_clears_one_context(rules in rules(), steps in steps()) {
        let mut space = after(rules, &steps);
        let of = |space: &AddressSpace, ctx: u32| -> u64 {
            let mine = space.iter().filter(|vma| vma.uffd() == Some(CtxId(ctx)));
            mine.map(|vma| vma.span().len.bytes()).sum()
        };
        let (mine, other) = (of(&space, 0), of(&space, 1));
        let cleared: u64 = space.uffd_release(CtxId(0)).iter().map(|p| p.span().len.bytes()).sum();
        prop_assert_eq!((cleared, of(&space, 0), of(&space, 1)), (mine, 0, other));
        prop_assert_eq!(space.validate(), Ok(()));
    }
}
