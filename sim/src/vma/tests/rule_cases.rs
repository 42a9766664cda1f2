//! Rules that neither the kernel's harness nor the recorded cases show: one case each.

use shims::{Addr, Errno};

use super::super::{AddressSpace, CtxId, Mmap, Prot, Rules};
use super::on_6_18;

/// Rules: v2.2.1, v2.2.2, v2.2.3, v2.2.5, v2.2.7.
#[test]
fn each_attribute_keeps_neighbours_apart() {
    for other in [
        "rwx",
        "r",
        "rw:nr",
        "rw:lo",
        "rw:lf,lo",
        "rw:dc",
        "rw:wf",
        "rw:dd",
        "rw:sr",
        "rw:rr",
        "rw:hg",
        "rw:nh",
        "rw:mg",
        "rw:sl",
        "rw:dp",
        "rw:gd",
        "rw:um@1",
        "rw:uw@1",
        "rw:-me",
        "rw:-ac",
        "rw:mp1",
        "rw:name1",
        "rw:shm1+2",
        "rw:pg=9",
    ] {
        let other = other.replace("lf,lo", "lo,lf");
        on_6_18(&format!("given [0,2){other}\n new [2,4)rw => [0,2){other} [2,4)rw"));
        on_6_18(&format!(
            "given [0,2)rwx:X1 [2,4){other}\n modify [0,2)rw => [0,2)rw:X1 [2,4){other}"
        ));
    }
}

/// Rules: v2.2.8.
#[test]
fn a_fitting_offset_is_no_reason_to_join_over_a_hole() {
    on_6_18("given [0,2)rw:pg=1 [6,8)rw:pg=5\n new [3,5)rw => [0,2)rw:pg=1 [3,5)rw [6,8)rw:pg=5");
}

/// Rules: v2.2.4, v2.9.7, v2.13.4.
#[test]
fn contexts_keep_neighbours_apart_even_with_equal_modes() {
    on_6_18(
        "given [0,8)rw
         register 1 [0,2) um       => [0,2)rw:um@1 [2,8)rw
         register 2 [2,4) um       => [0,2)rw:um@1 [2,4)rw:um@2 [4,8)rw
         register 2 [0,4) um = EBUSY  => [0,2)rw:um@1 [2,4)rw:um@2 [4,8)rw
         register 1 [4,6) um+uw    => [0,2)rw:um@1 [2,4)rw:um@2 [4,6)rw:um@1,uw@1 [6,8)rw
         register 1 [4,6) um       => [0,2)rw:um@1 [2,4)rw:um@2 [4,6)rw:um@1,uw@1 [6,8)rw
         register 1 [0,2) uw       => [0,2)rw:uw@1 [2,4)rw:um@2 [4,6)rw:um@1,uw@1 [6,8)rw
         close 2                   => [0,2)rw:uw@1 [2,4)rw [4,6)rw:um@1,uw@1 [6,8)rw
         close 1                   => [0,8)rw",
    );
}

/// Rules: v2.9.7, v2.13.1, v2.13.2.
#[test]
fn what_cannot_be_registered_says_why_before_anything_changes() {
    on_6_18(
        "given [0,2)rw [2,4)rw:file1+0 [6,8)rw:shm1+0
         register 1 [0,4) um = EINVAL  => [0,2)rw [2,4)rw:file1+0 [6,8)rw:shm1+0
         register 1 [4,6) um = EINVAL
         register 1 [0,2) ui = EINVAL
         register 1 [5,7) um+ui        => [0,2)rw [2,4)rw:file1+0 [6,7)rw:um@1,ui@1,shm1+0 [7,8)rw:shm1+1
         given [0,2)r:-mw,ms,shm1+0
         register 1 [0,2) um = EPERM   => [0,2)r:-mw,ms,shm1+0
         given [0,2)rw:nr,dp
         register 1 [0,2) um = EINVAL  => [0,2)rw:nr,dp",
    );
}

/// Rules: v2.1.1, v2.1.2, v2.2.3, v2.2.7.
#[test]
fn files_join_by_identity_and_offset() {
    on_6_18(
        "map [0,2) rw shared 1+0     => [0,2)rw:sh,shm1+0
         map [2,4) rw shared 1+2     => [0,4)rw:sh,shm1+0
         map [4,6) rw shared 2+4     => [0,4)rw:sh,shm1+0 [4,6)rw:sh,shm2+4
         map [6,8) rw shared 2+7     => [0,4)rw:sh,shm1+0 [4,6)rw:sh,shm2+4 [6,8)rw:sh,shm2+7
         munmap [0,3)                => [3,4)rw:sh,shm1+3 [4,6)rw:sh,shm2+4 [6,8)rw:sh,shm2+7",
    );
}

/// Rules: v2.7.10, v2.7.16.
#[test]
fn a_shared_mapping_of_a_read_only_file_is_not_shared() {
    on_6_18(
        "map [0,2) rw 1+0 shared readonly = EACCES
         map [0,2) r 1+0 shared readonly  => [0,2)r:-mw,ms,shm1+0
         mprotect [0,2) rw = EACCES       => [0,2)r:-mw,ms,shm1+0",
    );
}

/// Rules: v2.3.12.
#[test]
fn a_first_fault_takes_over_the_next_identity_before_the_previous() {
    on_6_18(
        "given [0,2)rwx:X1 [2,4)rw [4,6)rwx:X2
         write 2                   => [0,2)rwx:X1 [2,4)rw:X2 [4,6)rwx:X2
         given [0,2)rwx:X1 [2,4)rw [4,6)rwx:X2*
         write 2                   => [0,2)rwx:X1 [2,4)rw:X1 [4,6)rwx:X2*
         given [0,2)rwx:dc,X1 [2,4)rw
         write 2                   => [0,2)rwx:dc,X1 [2,4)rw:X2
         given [0,2)rwx:X1,mp1 [2,4)rw
         write 2                   => [0,2)rwx:X1,mp1 [2,4)rw:X2
         given [0,2)rwx:shm1+0,X1 [2,4)rw:shm2+2
         write 2                   => [0,2)rwx:shm1+0,X1 [2,4)rw:shm2+2,X2
         given [0,2)rwx:shm1+0,X1 [2,4)rw:shm1+2
         write 2                   => [0,2)rwx:shm1+0,X1 [2,4)rw:shm1+2,X1
         given [0,2)rw:sh,shm1+0
         write 0                   => [0,2)rw:sh,shm1+0",
    );
}

/// Rules: v2.3.14, v2.10.14.
#[test]
fn fork_copies_one_by_one() {
    on_6_18(
        "given [0,2)rw:dc [2,4)rw:wf,X1 [4,6)rw:lo [6,8)rw:um@1 [8,10)rw:X2
         fork                      => [2,4)rw:wf [4,6)rw [6,8)rw [8,10)rw:X3*
         given [0,2)rw:um@1,X1
         fork events               => [0,2)rw:um@11,X2*",
    );
}

/// Rules: v2.10.14.
#[test]
fn a_wiped_vma_is_unfaulted_in_the_child_and_joins_freely() {
    on_6_18(
        "given [0,2)rw:wf,X1
         fork
         madvise [0,2) keeponfork
         map [2,4) rw              => [0,4)rw",
    );
}

/// Rules: v2.7.6.
#[test]
fn noreplace_finds_any_overlap() {
    on_6_18(
        "given [2,4)rw
         map [0,3) rw noreplace = EEXIST  => [2,4)rw
         map [0,2) rw noreplace           => [0,4)rw",
    );
}

/// Rules: v2.7.17, v2.9.15.
#[test]
fn a_fixed_mapping_that_meets_a_seal_leaves_its_splits() {
    on_6_18(
        "given [0,6)--- [6,7)---:sl
         map [5,8) rw = EPERM      => [0,5)--- [5,6)--- [6,7)---:sl
         munmap [6,7) = EPERM      => [0,5)--- [5,6)--- [6,7)---:sl",
    );
}

/// Rules: v2.4.9, v2.9.5, v2.9.12, v2.9.15.
#[test]
fn a_seal_forbids_what_table_v2_9_lists() {
    on_6_18(
        "given [0,2)r:sl [4,6)rw:sl
         mremap [0,2) [8,10) = EPERM
         mremap [0,2) 1 = EPERM
         map [0,1) rw = EPERM
         madvise [0,2) dontfork = EPERM
         madvise [4,6) dontfork    => [0,2)r:sl [4,6)rw:dc,sl
         madvise [0,2) dontdump    => [0,2)r:dd,sl [4,6)rw:dc,sl
         mseal [0,6) = ENOMEM
         given [0,2)rw [2,4)rw:sl
         mseal [0,2)               => [0,4)rw:sl",
    );
}

/// Rules: v2.3.11, v2.4.9, v2.9.3.
#[test]
fn locking_populates_what_may_be_written() {
    on_6_18(
        "given [0,2)rw [4,6)r
         mlock [0,1)               => [0,1)rw:lo,X1 [1,2)rw [4,6)r
         mlock [4,6)               => [0,1)rw:lo,X1 [1,2)rw [4,6)r:lo
         mlock [1,2) onfault       => [0,1)rw:lo,X1 [1,2)rw:lo,lf [4,6)r:lo
         mlock [1,5) = ENOMEM      => [0,2)rw:lo,X1 [4,6)r:lo
         munlockall                => [0,2)rw:X1 [4,6)r
         mlockall                  => [0,2)rw:lo,X1 [4,6)r:lo
         map [8,9) rw              => [0,2)rw:lo,X1 [4,6)r:lo [8,9)rw:lo,X2
         munlock [0,9) = ENOMEM    => [0,2)rw:X1 [4,6)r:lo [8,9)rw:lo,X2",
    );
}

/// Rules: v2.3.11, v2.9.10, v2.9.14.
#[test]
fn locked_memory_that_becomes_writable_is_faulted_in() {
    on_6_18(
        "given [0,2)---
         mlock [0,2) = ENOMEM      => [0,2)---:lo
         mprotect [0,2) rw         => [0,2)rw:lo,X1",
    );
}

/// Rules: v2.7.7, v2.9.14.
#[test]
fn the_lock_limit_is_asked_first() {
    on_6_18(
        "unprivileged 2
         map [0,4) rw
         mlock [0,3) = ENOMEM      => [0,4)rw
         mlock [0,2)               => [0,2)rw:lo,X1 [2,4)rw
         mlock [0,2)
         map [8,9) rw locked = EAGAIN  => [0,2)rw:lo,X1 [2,4)rw
         mremap [0,2) 3 = EAGAIN   => [0,2)rw:lo,X1 [2,4)rw
         unprivileged 0
         map [8,9) rw locked = EPERM",
    );
}

/// Rules: v2.7.18, v2.9.10.
#[test]
fn the_data_limit_counts_what_is_private_and_writable() {
    on_6_18(
        "map [0,4) rw
         map [10,12) r
         datalimit 4
         map [20,21) rw = ENOMEM
         map [20,21) r             => [0,4)rw [10,12)r [20,21)r
         mprotect [10,11) rw = ENOMEM  => [0,4)rw [10,12)r [20,21)r
         datalimit 3
         map [0,4) rw = ENOMEM     => [0,4)rw [10,12)r [20,21)r",
    );
}

/// Rules: v2.3.11, v2.10.13.
#[test]
fn a_stack_grows_down_to_the_guard_gap() {
    on_6_18(
        "given [0,1)rw [300,301)rw:gd
         write 298                 => [0,1)rw [298,301)rw:gd,X1
         write 257                 => [0,1)rw [257,301)rw:gd,X1
         write 256 = ENOMEM        => [0,1)rw [257,301)rw:gd,X1
         mprotect [0,1) ---
         write 200                 => [0,1)--- [200,301)rw:gd,X1
         given [0,2)rw [400,401)rw
         write 399 = EFAULT        => [0,2)rw [400,401)rw",
    );
}

/// Rules: v2.10.5.
#[test]
fn growing_needs_the_end_of_one_vma_and_room() {
    on_6_18(
        "given [0,4)rw [6,8)r
         mremap [0,4) 7 = ENOMEM   => [0,4)rw [6,8)r
         mremap [0,2) 3 = ENOMEM   => [0,4)rw [6,8)r
         mremap [0,6) 7 = EFAULT
         mremap [4,5) 2 = EFAULT
         mremap [0,4) 6            => [0,6)rw [6,8)r
         mremap [6,8) [4,6)        => [0,4)rw [4,6)r
         mremap [0,4) [2,6) = EINVAL
         mremap [0,4) [10,12) keep = EINVAL",
    );
}

/// Rules: v2.3.7, v2.10.5.
#[test]
fn faulted_memory_grows_up_to_another_identity_and_stays_apart() {
    on_6_18(
        "given [0,4)rw:X1 [6,8)rw:X2
         mremap [0,4) 6            => [0,6)rw:X1 [6,8)rw:X2",
    );
}

/// Rules: v2.10.7, v2.10.9.
#[test]
fn a_move_keeps_the_registration_only_with_the_event() {
    on_6_18(
        "given [0,4)rw:um@1
         mremap [0,4) [8,12)          => [8,12)rw
         given [0,4)rw:um@1
         mremap [0,4) [8,12) events   => [8,12)rw:um@1
         given [0,2)rw [4,6)rw:um@1
         mremap [0,6) [8,14) = EFAULT => [4,6)rw:um@1 [8,10)rw
         given [0,2)rw:um@1
         mremap [0,2) 4               => [0,4)rw:um@1",
    );
}

/// Rules: v2.10.3, v2.10.8.
#[test]
fn the_shrunken_tail_and_the_target_go() {
    on_6_18(
        "given [0,2)rw [2,6)r [8,12)rwx
         mremap [0,6) 1            => [0,1)rw [8,12)rwx
         mremap [8,12) [0,2)       => [0,2)rwx",
    );
}

/// Rules: v2.10.11.
#[test]
fn old_length_zero_copies_shared_memory() {
    on_6_18(
        "given [0,2)rw:sh,shm1+0 [4,6)rw
         mremap [0,2) [8,10) none  => [0,2)rw:sh,shm1+0 [4,6)rw [8,10)rw:sh,shm1+0
         mremap [4,6) [12,14) none = EINVAL",
    );
}

/// Rules: v2.5.2, v2.13.1.
#[test]
fn hugetlb_is_cut_between_its_pages_only() {
    on_6_18(
        "given [0,1024)rw:-ac,de,ht,huge1+0
         munmap [0,1) = EINVAL     => [0,1024)rw:de,ht,huge1+0
         mprotect [0,511) r = EINVAL
         register 1 [0,511) um = EINVAL
         register 1 [1,512) um = EINVAL
         munmap [0,512)            => [512,1024)rw:de,ht,huge1+512
         mremap [512,1024) 1024 = EINVAL",
    );
}

/// Rules: v2.2.5, v2.4.9, v2.9.2.
#[test]
fn names_keep_apart_and_join() {
    on_6_18(
        "given [0,6)rw
         name [2,4) 1              => [0,2)rw [2,4)rw:name1 [4,6)rw
         name [0,2) 1              => [0,4)rw:name1 [4,6)rw
         name [0,8) 0 = ENOMEM     => [0,6)rw
         given [0,2)rw:file1+0
         name [0,2) 1 = EBADF",
    );
}

/// Rules: v2.9.6.
#[test]
fn mbind_refuses_holes_before_it_starts() {
    on_6_18(
        "given [0,2)rw [4,6)rw
         mbind [0,6) 1 = EFAULT    => [0,2)rw [4,6)rw
         mbind [0,6) 0
         mbind [8,9) 0 = EFAULT",
    );
}

/// Rules: v2.3.11, v2.9.13.
#[test]
fn guards_mark_the_whole_vma_and_stick() {
    on_6_18(
        "given [0,6)rw
         madvise [2,3) guard       => [0,6)rw:gu,X1
         mprotect [2,4) r          => [0,2)rw:gu,X1 [2,4)r:ac,gu,X1 [4,6)rw:gu,X1
         given [0,2)rw:lo
         madvise [0,2) guard = EINVAL",
    );
}

/// Rules: v2.9.11.
#[test]
fn advices_that_a_mapping_cannot_take() {
    on_6_18(
        "given [0,2)rw:sh,shm1+0 [2,4)rw:nr,wf,dd,dp
         madvise [0,2) wipeonfork = EINVAL
         madvise [2,4) keeponfork = EINVAL
         madvise [0,4) mergeable   => [0,2)rw:sh,shm1+0 [2,4)rw:nr,wf,dd,dp",
    );
}

/// Rules: v2.8.3.
#[test]
fn d16_a_refusal_names_who_was_noted_before_it() {
    let layout = "[0,2)rw:um@1 [2,3)rw:um@2 [3,4)rw:um@1 [4,6)rw:sl,um@3 [6,8)rw:um@4";
    let parsed = |layout| AddressSpace::from_layout(Rules::LINUX_6_18, Addr::new(0), layout);
    let address = |page: u64| page << 12;
    let space = || parsed(layout).expect("a layout");
    let refused = |start, pages: u64| space().munmap(address(start), pages << 12).unwrap_err();
    let told =
        |start, pages| refused(start, pages).told.iter().map(|ctx| ctx.0).collect::<Vec<_>>();
    assert_eq!(refused(0, 6).errno, Errno::EPERM);
    assert_eq!(told(0, 6), [1, 2], "each once, below the seal only");
    assert_eq!(told(1, 8), [1, 2], "a cut at the start changes nothing");
    assert_eq!(told(2, 3), [2, 1], "in the order of their first VMAs");
    assert_eq!(told(4, 4), [0; 0]);
    assert_eq!(told(5, 2), [0; 0], "a sealed first VMA is refused before it is cut");
    let over = |start, pages: u64| {
        let mut space = space();
        space.limits_mut().rlimit_as = space.total_pages() << 12;
        // Below `mmap_min_addr`, as this layout is, nobody may map otherwise.
        space.limits_mut().mmap_min_addr = 0;
        space.mmap(&Mmap::fixed(address(start), pages << 12, Prot::RW)).unwrap_err()
    };
    assert_eq!(over(0, 5).told, [CtxId(1), CtxId(2)]);
    assert_eq!(over(6, 3).errno, Errno::ENOMEM);
    assert_eq!(over(6, 3).told, [CtxId(4)], "the limit comes after the walk");
    assert_eq!(over(8, 1).told, []);
    let huge = "[0,2)rw:um@1 [512,1024)rw:nr,ht,de,close,huge1+0,um@2";
    let mut huge = parsed(huge).expect("a layout");
    let cut = huge.munmap(address(0), 600 << 12).unwrap_err();
    assert_eq!((cut.errno, cut.told), (Errno::EINVAL, vec![CtxId(1)]), "a huge page cannot be cut");
}

/// Rules: v2.4.8, v2.10.12.
#[test]
fn the_heap_takes_in_nothing_from_below_its_start() {
    on_6_18(
        "map [0,2) rw
         heap 2
         brk 4                     => [0,2)rw [2,4)rw
         brk 6                     => [0,2)rw [2,6)rw
         brk 1 = ENOMEM            => [0,2)rw [2,6)rw",
    );
}

/// Rules: v2.7.5.
#[test]
fn nothing_is_mapped_below_mmap_min_addr() {
    let mut space = AddressSpace::new(Rules::LINUX_6_18);
    space.limits_mut().mmap_min_addr = 16 << 12;
    let mut map = |page: u64| space.mmap(&Mmap::fixed(page << 12, 1 << 12, Prot::RW)).map(drop);
    // The first one in an empty address space, and one beside another.
    assert_eq!(map(15).map_err(|refused| refused.errno), Err(Errno::EPERM));
    assert!(map(16).is_ok());
    assert_eq!(map(15).map_err(|refused| refused.errno), Err(Errno::EPERM));
}

#[test]
fn a_hole_between_two_leaves_is_joined_on_both_sides() {
    let mut space = AddressSpace::new(Rules::LINUX_6_18);
    let page = |at: u64| (0x1000 + at) << 12;
    for i in 0..200 {
        space.mmap(&Mmap::fixed(page(2 * i), 1 << 12, Prot::RW)).unwrap();
    }
    for i in (0..200).rev().skip(1) {
        let mut filled = space.clone();
        filled.mmap(&Mmap::fixed(page(2 * i + 1), 1 << 12, Prot::RW)).unwrap();
        assert_eq!(filled.map_count(), 199, "the hole above VMA {i}");
    }
}
