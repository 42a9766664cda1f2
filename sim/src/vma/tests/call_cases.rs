//! What each call refuses, in which order, and what it does to the mappings it takes: the rules
//! that no recorded sequence shows. Sequences are `rule_cases.rs`'s.

use shims::{Addr, Errno, Len, PageSize, RegisterModes, Span};

use super::super::{
    AddressSpace, Advice, CtxId, FileId, FileKind, Limits, LockAll, MapFile, MapFlags, Mmap,
    Mremap, Prot, RemapFlags, Rules, VmaFlags,
};
use super::language::{BASE, addr as page};
use super::on_6_18;

fn space(layout: &str) -> AddressSpace {
    AddressSpace::from_layout(Rules::LINUX_6_18, Addr::new(BASE), layout).expect("a layout")
}

fn shown(space: &AddressSpace) -> String {
    space.layout(Addr::new(BASE)).to_string()
}

/// What `mmap` says of each request in an address space like this one.
fn refuses(space: &AddressSpace, cases: &[(&str, Mmap, Errno)]) {
    for (what, request, errno) in cases {
        let mut space = space.clone();
        let before = shown(&space);
        let said = space.mmap(request).map(|_| ()).map_err(|refused| refused.errno);
        assert_eq!(said, Err(*errno), "{what}");
        assert_eq!(shown(&space), before, "{what}");
    }
}

/// Rules: v2.7.1, v2.7.2, v2.7.3, v2.7.4, v2.7.5, v2.7.6, v2.7.7, v2.7.8, v2.7.9, v2.7.10.
/// Rules: v2.7.11, v2.7.12, v2.7.13, v2.7.14, v2.7.15.
#[test]
fn mmap_finds_what_is_wrong_in_this_order() {
    let mut space = space("[0,2)rw [4,6)rw");
    *space.limits_mut() = Limits {
        max_map_count: 1,
        may_lock_any: false,
        rlimit_memlock: 0,
        ..space.limits().clone()
    };
    let of = |kind| MapFile::rw(FileId(1), kind);
    let unreadable = |file: MapFile| MapFile { readable: false, ..file };
    let locked = MapFlags::LOCKED | MapFlags::FIXED_NOREPLACE;
    let untyped = MapFlags::from_bits_retain(0xf);
    let plain = Mmap::anon(4096, Prot::RW).hint(page(0));
    let all_wrong = Mmap { addr: page(0), len: 0, offset: 1, ..plain.with(locked | untyped) };
    // Each request has mended what the one before it was refused for.
    let long = Mmap { len: u64::MAX, ..all_wrong };
    let unaligned = Mmap { len: 4096, ..all_wrong };
    refuses(
        &space,
        &[
            ("no length", all_wrong, Errno::EINVAL),
            ("a length that wraps", long, Errno::ENOMEM),
            ("an unaligned offset", unaligned, Errno::EINVAL),
            ("too many VMAs", Mmap { offset: 0, ..unaligned }, Errno::ENOMEM),
        ],
    );
    space.limits_mut().max_map_count = 2;
    let at = |request: Mmap, addr| Mmap { addr, offset: 0, len: 4096, ..request };
    let task_size = space.limits().task_size;
    refuses(
        &space,
        &[
            ("a fixed place beyond the end", at(all_wrong, task_size), Errno::ENOMEM),
            ("an unaligned fixed place", at(all_wrong, page(0) + 1), Errno::EINVAL),
            ("a fixed place below the lowest", at(all_wrong, 4096), Errno::EPERM),
            ("something is there", at(all_wrong, page(1)), Errno::EEXIST),
            ("no right to lock", at(all_wrong, page(8)), Errno::EPERM),
        ],
    );
    space.limits_mut().rlimit_memlock = 4095;
    refuses(&space, &[("the lock limit", at(all_wrong, page(8)), Errno::EAGAIN)]);
    let free = Mmap { flags: MapFlags::FIXED, ..at(plain, page(8)) };
    let private = free.with(MapFlags::PRIVATE);
    let file = |file, request: Mmap| Mmap { file: Some(file), ..request };
    let shmem = of(FileKind::Shmem);
    let bad = unreadable(MapFile { append_only: true, noexec: true, ..shmem });
    let huge_file = |offset| Mmap {
        addr: 1 << 30,
        offset,
        ..file(of(FileKind::Hugetlb(PageSize::MIB2)), private)
    };
    let exec = |request: Mmap| Mmap { prot: Prot::RX, ..request };
    let stack = MapFlags::GROWSDOWN;
    let droppable = |request: Mmap| request.with(MapFlags::DROPPABLE);
    let beyond = |more: u64, request| Mmap { offset: (1 << 63) - 4096 + more, ..request };
    let locked = beyond(0, file(bad, free.with(MapFlags::LOCKED)));
    refuses(&space, &[("the lock limit before the file's end", locked, Errno::EAGAIN)]);
    space.limits_mut().may_lock_any = true;
    refuses(
        &space,
        &[
            ("beyond a file's end", beyond(0, file(bad, free.with(untyped))), Errno::EOVERFLOW),
            ("a wrapping end", beyond(1 << 63, file(bad, free.with(untyped))), Errno::EOVERFLOW),
            ("an unknown type", file(bad, free.with(untyped)), Errno::EINVAL),
            ("append-only", file(bad, free.shared().with(stack)), Errno::EACCES),
            ("not open for writing", file(shmem.read_only(), free.shared()), Errno::EACCES),
            ("not open for reading", file(bad, exec(private.with(stack))), Errno::EACCES),
            (
                "a no-exec mount",
                file(MapFile { noexec: true, ..shmem }, exec(private.with(stack))),
                Errno::EPERM,
            ),
            ("a stack of a file", file(shmem, private.with(stack)), Errno::EINVAL),
            ("a shared stack", free.shared().with(stack), Errno::EINVAL),
            ("inside a huge page", huge_file(4096), Errno::EINVAL),
            ("a droppable file", file(shmem, droppable(free)), Errno::EINVAL),
            ("droppable and locked", droppable(free).with(MapFlags::LOCKED), Errno::EINVAL),
            (
                "droppable and huge",
                Mmap { addr: 1 << 30, ..droppable(free) }.with(MapFlags::HUGETLB),
                Errno::EINVAL,
            ),
            ("a droppable stack", droppable(free).with(stack), Errno::EINVAL),
        ],
    );
    assert!(space.clone().mmap(&private).is_ok(), "nothing else is wrong");
    assert!(space.clone().mmap(&beyond(0, private)).is_ok(), "no file, no end");
    let last = Mmap { offset: (1 << 63) - 8192, ..file(shmem, private) };
    assert!(space.clone().mmap(&last).is_ok(), "the last page a file can have");
    assert!(space.clone().mmap(&huge_file(2 << 20)).is_ok());
    assert!(space.mmap(&droppable(free)).is_ok());
}

/// Rules: v2.7.19.
#[test]
fn droppable_memory_is_never_locked_but_joined_as_if() {
    let mut space = space("[0,2)rw");
    space.mlockall(LockAll::FUTURE).expect("it may");
    let droppable = |at| Mmap {
        flags: MapFlags::DROPPABLE | MapFlags::ANONYMOUS | MapFlags::FIXED,
        ..Mmap::fixed(page(at), 2 << 12, Prot::RW)
    };
    space.mmap(&droppable(4)).expect("there is room");
    assert_eq!(shown(&space), "[0,2)rw [4,6)rw:nr,wf,dd,dp,X1");
    // The first has no lock any more when the second, with one, looks whether it fits.
    space.mmap(&droppable(6)).expect("there is room");
    assert_eq!(shown(&space), "[0,2)rw [4,6)rw:nr,wf,dd,dp,X1 [6,8)rw:nr,wf,dd,dp,X1");
    assert_eq!(space.locked_pages(), 0);
}

/// Rules: v2.8.1.
#[test]
fn munmap_takes_whole_pages_of_the_address_space() {
    let mut space = space("[0,2)rw");
    let task_size = space.limits().task_size;
    let wrong = [
        (page(0) + 1, 4096),
        (page(0), 0),
        (task_size, 4096),
        (page(0), task_size),
        (page(0), u64::MAX),
        (u64::MAX << 12, 4096),
    ];
    for (start, len) in wrong {
        assert_eq!(space.munmap(start, len).map_err(|r| r.errno), Err(Errno::EINVAL), "{start:#x}");
    }
    assert!(space.munmap(page(8), 4096).expect("nothing is there").is_empty());
    assert_eq!(shown(&space), "[0,2)rw");
    space.munmap(page(0), 1).expect("a part of a page is a page");
    assert_eq!(shown(&space), "[1,2)rw");
}

/// Rules: v2.8.4.
#[test]
fn d14_what_is_unmapped_is_told_to_each_context_once() {
    let mut space = space("[0,1)rw:um@2 [1,2)rw [2,3)rw:um@1 [3,4)rw:uw@2 [5,6)rw:um@3");
    let removed = space.munmap(page(0), 5 << 12).expect("nothing is sealed");
    assert_eq!(removed.ctxs().collect::<Vec<_>>(), [CtxId(2), CtxId(1)]);
    assert_eq!(removed.parts().count(), 4);
}

/// Rules: v2.3.11.
#[test]
fn memory_gets_an_identity_when_it_gets_a_private_page() {
    on_6_18(
        "map [0,1) rw populate     => [0,1)rw:X1
         map [2,3) rw locked       => [0,1)rw:X1 [2,3)rw:lo,X2
         map [4,5) r populate      => [0,1)rw:X1 [2,3)rw:lo,X2 [4,5)r
         map [6,7) rw shared populate 3+0
         write 6
         madvise [6,7) guard       => [0,1)rw:X1 [2,3)rw:lo,X2 [4,5)r [6,7)rw:sh,gu,shm3+0
         map [8,9) rw 3+0
         madvise [8,9) guard       => [0,1)rw:X1 [2,3)rw:lo,X2 [4,5)r [6,7)rw:sh,gu,shm3+0 [8,9)rw:gu,shm3+0",
    );
}

/// Rules: v2.3.9.
#[test]
fn a_middle_that_was_cut_out_joins_both_of_its_sides_again() {
    on_6_18(
        "given [0,6)rw:X1
         mprotect [2,4) r
         munmap [2,4)              => [0,2)rw:X1 [4,6)rw:X1
         map [2,4) rw              => [0,6)rw:X1
         given [0,2)rw [2,4)rwx [4,6)rw
         mprotect [0,6) rw         => [0,6)rw
         given [20,24)r [24,28)rw [28,32)r
         mprotect [22,30) ---      => [20,22)r [22,30)--- [30,32)r",
    );
}

/// Rules: v2.4.10.
#[test]
fn some_changes_look_for_nobody_to_join() {
    on_6_18(
        "given [0,2)rw [2,4)rw:um@1
         fork                      => [0,2)rw [2,4)rw
         given [0,2)rw:gd [4,6)rw:gd
         write 2                   => [0,2)rw:gd [2,6)rw:gd,X1
         given [0,2)rw [8,10)rw:um@1
         mremap [8,10) [2,4)       => [0,2)rw [2,4)rw",
    );
}

/// Rules: v2.6.2, v2.6.4, v2.6.5, v2.6.6, v2.6.9, v2.6.10, v2.6.11, v2.5.3.
#[test]
fn the_limit_on_vmas_call_by_call() {
    on_6_18(
        "given [0,3)rw:um@1 [10,13)rw
         max 2
         map [1,2) r = ENOMEM      => [0,3)rw:um@1 [10,13)rw
         unregister 1 [1,2) = ENOMEM  => [0,3)rw:um@1 [10,13)rw
         name [10,11) 1 = EAGAIN   => [0,3)rw:um@1 [10,13)rw
         mremap [10,13) 3          => [0,3)rw:um@1 [10,13)rw
         max 3
         map [1,2) r               => [0,1)rw:um@1 [1,2)r [2,3)rw:um@1 [10,13)rw
         map [0,2) rw = ENOMEM
         given [0,3)rw [10,13)rw
         heap 20
         max 1
         brk 22 = ENOMEM           => [0,3)rw [10,13)rw
         max 2
         brk 22                    => [0,3)rw [10,13)rw [20,22)rw
         given [0,1)rw [600,601)rw:gd
         max 0
         write 599                 => [0,1)rw [599,601)rw:gd,X1
         fork                      => [0,1)rw [599,601)rw:gd,X2*",
    );
}

/// Rules: v2.9.4, v2.9.16.
#[test]
fn mlockall_goes_on_and_munlockall_ends_what_it_began() {
    on_6_18(
        "given [0,2)--- [4,6)rw
         mlockall                  => [0,2)---:lo [4,6)rw:lo,X1
         map [8,9) rw              => [0,2)---:lo [4,6)rw:lo,X1 [8,9)rw:lo,X2
         munlockall                => [0,2)--- [4,6)rw:X1 [8,9)rw:X2
         map [10,11) rw            => [0,2)--- [4,6)rw:X1 [8,9)rw:X2 [10,11)rw",
    );
}

/// Rules: v2.9.5, v2.9.8, v2.9.9.
#[test]
fn a_walk_that_stops_keeps_what_it_has_changed() {
    on_6_18(
        "given [0,2)rw [2,4)r
         max 3
         mseal [1,3) = ENOMEM      => [0,1)rw [1,2)rw:sl [2,4)r
         given [0,2)rw:um@1 [4,6)rw:um@1
         max 2
         unregister 1 [0,5) = ENOMEM  => [0,2)rw [4,6)rw:um@1
         max 9
         register 1 [0,6) um
         unregister 1 [1,5)        => [0,1)rw:um@1 [1,2)rw [4,5)rw [5,6)rw:um@1",
    );
}

/// Rules: v2.9.3, v2.9.14.
#[test]
fn locking_stops_at_a_hole_and_at_memory_without_access() {
    on_6_18(
        "given [0,2)rw [2,4)--- [4,6)rw
         mlock [0,6) = ENOMEM      => [0,2)rw:lo,X1 [2,4)---:lo [4,6)rw:lo
         given [0,2)rw [4,6)rw:lo,X1
         munlock [0,6) = ENOMEM    => [0,2)rw [4,6)rw:lo,X1
         munlock [4,6)             => [0,2)rw [4,6)rw:X1
         given [2,4)rw:dp
         mlock [2,4)               => [2,4)rw:dp,X1",
    );
}

/// Rules: v2.9.11, v2.9.12, v2.9.13.
#[test]
fn each_advice_sets_its_flag_or_says_why_not() {
    let done = |layout: &str, advice| {
        let mut space = space(layout);
        let said = space.madvise(page(0), 2 << 12, advice);
        said.map(|()| space.find(Addr::new(page(0))).expect("it is mapped").flags())
    };
    let flags = |layout: &str| space(layout).find(Addr::new(page(0))).expect("mapped").flags();
    let cases = [
        ("[0,2)rw:rr", Advice::Normal, Ok("[0,2)rw")),
        ("[0,2)rw:sr", Advice::Random, Ok("[0,2)rw:rr")),
        ("[0,2)rw:rr", Advice::Sequential, Ok("[0,2)rw:sr")),
        ("[0,2)rw", Advice::DontFork, Ok("[0,2)rw:dc")),
        ("[0,2)rw:dc", Advice::DoFork, Ok("[0,2)rw")),
        ("[0,2)rw:io", Advice::DoFork, Err(Errno::EINVAL)),
        ("[0,2)rw", Advice::WipeOnFork, Ok("[0,2)rw:wf")),
        ("[0,2)rw:file1+0", Advice::WipeOnFork, Err(Errno::EINVAL)),
        ("[0,2)rw:wf", Advice::KeepOnFork, Ok("[0,2)rw")),
        ("[0,2)rw:wf,dp", Advice::KeepOnFork, Err(Errno::EINVAL)),
        ("[0,2)rw", Advice::DontDump, Ok("[0,2)rw:dd")),
        ("[0,2)rw:dd", Advice::DoDump, Ok("[0,2)rw")),
        ("[0,2)rw:io,dd", Advice::DoDump, Err(Errno::EINVAL)),
        ("[0,2)rw:dd,dp", Advice::DoDump, Err(Errno::EINVAL)),
        ("[0,2)rw", Advice::Mergeable, Ok("[0,2)rw:mg")),
        ("[0,2)rw:mg", Advice::Unmergeable, Ok("[0,2)rw")),
        ("[0,2)rw:io", Advice::Mergeable, Ok("[0,2)rw:io")),
        ("[0,2)rw:nh", Advice::HugePage, Ok("[0,2)rw:hg")),
        ("[0,2)rw:hg", Advice::NoHugePage, Ok("[0,2)rw:nh")),
        ("[0,2)r:sl", Advice::DontFork, Err(Errno::EPERM)),
        ("[0,2)r:sl", Advice::WipeOnFork, Err(Errno::EPERM)),
        ("[0,2)r:sl", Advice::GuardInstall, Err(Errno::EPERM)),
        ("[0,2)r:sl,file1+0", Advice::DontFork, Ok("[0,2)r:dc,sl,file1+0")),
        ("[0,2)rw:sl", Advice::GuardInstall, Ok("[0,2)rw:gu,sl")),
        ("[0,2)rw:io", Advice::GuardInstall, Err(Errno::EINVAL)),
    ];
    for (before, advice, after) in cases {
        assert_eq!(done(before, advice), after.map(flags), "{advice:?} of {before}");
    }
}

/// Rules: v2.10.1, v2.10.2, v2.10.4.
#[test]
fn mremap_finds_what_is_wrong_before_anything_moves() {
    let huge = "[512,1024)rw:de,ht,huge1+0";
    let layout = format!("[0,4)rw [8,10)rw:sl {huge}");
    let of = |old: u64, old_len: u64, new_len: u64, flags: u64, new: u64| Mremap {
        old: page(old),
        old_len: old_len << 12,
        new_len: new_len << 12,
        flags: RemapFlags::from_bits_retain(flags),
        new: page(new),
    };
    let (may, fixed, keep) = (1, 3, 5);
    let cases = [
        ("an unknown flag", of(0, 2, 2, 8, 20), Errno::EINVAL),
        ("FIXED alone", of(0, 2, 2, 2, 20), Errno::EINVAL),
        ("DONTUNMAP alone", of(0, 2, 2, 4, 20), Errno::EINVAL),
        ("DONTUNMAP of another length", of(0, 2, 3, keep, 20), Errno::EINVAL),
        ("an unaligned source", Mremap { old: page(0) + 1, ..of(0, 1, 1, may, 0) }, Errno::EINVAL),
        (
            "an unaligned target",
            Mremap { new: page(20) + 1, ..of(0, 1, 1, fixed, 0) },
            Errno::EINVAL,
        ),
        ("no new length", of(0, 2, 0, may, 0), Errno::EINVAL),
        ("ranges that overlap", of(0, 2, 2, fixed, 1), Errno::EINVAL),
        (
            "a target outside",
            Mremap { new: 0x7fff_ffff_f000, ..of(0, 2, 2, fixed, 0) },
            Errno::EINVAL,
        ),
        ("nothing is there", of(4, 2, 3, may, 0), Errno::EFAULT),
        ("a seal", of(8, 2, 2, may, 0), Errno::EPERM),
        ("inside a huge page", of(513, 511, 511, may, 0), Errno::EINVAL),
        ("a huge page that grows", of(512, 512, 1024, may, 0), Errno::EINVAL),
        ("old length 0 of private memory", of(0, 0, 2, may, 0), Errno::EINVAL),
        ("a huge page left behind", of(512, 512, 512, keep | 2, 2048), Errno::EINVAL),
    ];
    for (what, asked, errno) in cases {
        let mut space = space(&layout);
        assert_eq!(space.mremap(&asked, |_| true).result, Err(errno), "{what}");
        assert_eq!(shown(&space), layout, "{what}");
    }
    let mut space = space(&layout);
    let same = space.mremap(&of(0, 2, 2, may, 0), |_| true);
    assert_eq!(same.result, Ok(Addr::new(page(0))));
    assert_eq!(shown(&space), layout);
}

/// Rules: v2.10.9.
#[test]
fn several_mappings_move_one_by_one_up_to_what_may_not() {
    on_6_18(
        "given [0,2)rw [4,6)rw:sl
         mremap [0,6) [20,26) = EPERM  => [4,6)rw:sl [20,22)rw
         given [0,2)rw [4,6)r
         mremap [0,6) [20,26) keep     => [0,2)rw [4,6)r [20,22)rw [24,26)r
         given [0,2)rw
         mremap [0,4) [20,24)          => [20,22)rw",
    );
}

/// Rules: v2.11.1, v2.11.2, v2.11.3.
#[test]
fn a_hint_then_the_highest_gap_then_the_lowest() {
    let mut space = space("[0,2)rw");
    let limits = space.limits().clone();
    let mut area = |hint, pages: u64| space.unmapped_area(hint, pages << 12).map(Addr::raw);
    assert_eq!(area(page(4) + 5, 1), Ok(page(4)), "rounded down");
    assert_eq!(area(4096, 1), Ok(limits.mmap_min_addr), "raised to the lowest address");
    assert_eq!(area(page(1), 1), Ok(limits.mmap_base - 4096), "taken: as without a hint");
    assert_eq!(area(0, 1), Ok(limits.mmap_base - 4096));
    let huge = 2 << 20;
    assert_eq!(area(0, 512), Ok((limits.mmap_base - huge) & !(huge - 1)), "aligned by its length");
    assert_eq!(area(page(1), 512), Ok(limits.mmap_base - huge), "not with a hint");
    space.limits_mut().mmap_base = page(2);
    space
        .mmap(&Mmap::fixed(limits.mmap_min_addr, BASE - limits.mmap_min_addr, Prot::NONE))
        .unwrap();
    let area = |space: &mut AddressSpace| space.unmapped_area(0, 3 << 12).map(Addr::raw);
    assert_eq!(area(&mut space), Ok(limits.legacy_base), "nothing is free below the base");
    space.mmap(&Mmap::fixed(limits.legacy_base, 4096, Prot::RW)).unwrap();
    assert_eq!(area(&mut space), Ok(limits.legacy_base + 4096), "the lowest gap");
    space.limits_mut().legacy_base = limits.task_size - (2 << 12);
    assert_eq!(area(&mut space), Err(Errno::ENOMEM));
}

/// Rules: v2.13.1, v2.13.2, v2.13.3.
#[test]
fn registering_and_unregistering_find_what_is_wrong_in_this_order() {
    let span = |at: u64, pages: u64| Span::new(Addr::new(page(at)), Len::new(pages << 12));
    let register = |layout: &str, at, pages, modes| {
        space(layout).uffd_register(span(at, pages), CtxId(1), modes, false)
    };
    let missing = RegisterModes::MISSING;
    let (none, unknown) = (RegisterModes::empty(), RegisterModes::from_bits_retain(1 << 9));
    let cases = [
        ("no mode", "[0,2)rw:io", none, Errno::EINVAL),
        ("an unknown mode", "[0,2)rw", unknown, Errno::EINVAL),
        ("nothing there", "[8,9)rw", missing, Errno::EINVAL),
        ("a special mapping", "[0,2)rw:io,um@2", missing, Errno::EINVAL),
        ("never writable, another's", "[0,2)r:-mw,um@2", missing, Errno::EPERM),
        ("another's", "[0,2)rw:um@2", missing, Errno::EBUSY),
        ("the second of two", "[0,1)rw [1,2)rw:um@2", missing, Errno::EBUSY),
        ("minor of private memory", "[0,2)rw", RegisterModes::MINOR, Errno::EINVAL),
        ("a file", "[0,2)rw:file1+0", missing, Errno::EINVAL),
    ];
    for (what, layout, modes, errno) in cases {
        assert_eq!(register(layout, 0, 2, modes), Err(errno), "{what}");
    }
    let file = "[0,2)rw:file1+0";
    let asynchronous = space(file).uffd_register(span(0, 2), CtxId(1), RegisterModes::WP, true);
    assert_eq!(asynchronous, Ok(()), "asynchronous protection takes any file");
    let unregister = |layout: &str, ctx| {
        let mut space = space(layout);
        let parts = space.uffd_unregister(span(0, 4), CtxId(ctx));
        parts.map(|parts| parts.len())
    };
    assert_eq!(unregister("[0,2)rw:um@1 [2,3)rw [3,4)rw:uw@1", 1), Ok(2));
    assert_eq!(unregister("[0,2)rw:um@1 [2,4)rw:um@2", 1), Err(Errno::EINVAL));
    assert_eq!(unregister("[0,2)rw:um@1 [2,4)rw:io", 1), Err(Errno::EINVAL));
    assert_eq!(unregister("[8,9)rw", 1), Err(Errno::EINVAL));
    assert!(VmaFlags::UFFD.contains(VmaFlags::UFFD_WP));
}

/// Rules: v2.1.2.
#[test]
fn page_offsets_begin_where_the_memory_comes_from() {
    let mut space = space("");
    let map = |space: &mut AddressSpace, request: Mmap| {
        let at = space.mmap(&request).expect("there is room").addr;
        space.find(at).expect("it is mapped").pgoff()
    };
    let at = Mmap::fixed(page(3), 4096, Prot::RW);
    assert_eq!(map(&mut space, at), page(3) >> 12);
    assert_eq!(map(&mut space, at.shared()), 0, "shared anonymous memory is a file of its own");
    let file = MapFile::rw(FileId(7), FileKind::Regular);
    assert_eq!(map(&mut space, Mmap { file: Some(file), offset: 5 << 12, ..at }), 5);
}
