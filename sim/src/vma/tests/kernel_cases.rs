//! What Linux 6.18 was seen to do, by the names under which docs/kernel/vma.md lists it.

use super::super::Rules;
use super::language::case;
use super::on_6_18;

/// Rules: v2.4.1, v2.4.2.
#[test]
fn p01_mapping_the_hole_joins_both_sides_and_a_read_only_page_stays_apart() {
    on_6_18(
        "map [0,2) rw           => [0,2)rw
         map [2,4) rw           => [0,4)rw
         map [6,8) rw           => [0,4)rw [6,8)rw
         map [4,6) rw           => [0,8)rw
         map [8,9) r            => [0,8)rw [8,9)r",
    );
}

/// Rules: v2.3.9.
#[test]
fn p02_two_faulted_sides_keep_a_new_middle_to_the_left() {
    on_6_18(
        "map [0,2) rw
         map [4,6) rw
         write 0                => [0,2)rw:X1 [4,6)rw
         write 4                => [0,2)rw:X1 [4,6)rw:X2
         map [2,4) rw           => [0,4)rw:X1 [4,6)rw:X2",
    );
}

/// Rules: v2.3.2, v2.3.9.
#[test]
fn p03_one_faulted_side_joins_both() {
    on_6_18(
        "given [0,2)rw [4,6)rw
         write 4                => [0,2)rw [4,6)rw:X1
         map [2,4) rw           => [0,6)rw:X1",
    );
}

/// Rules: v2.3.2, v2.3.3.
#[test]
fn p04_a_forked_chain_refuses_new_neighbours_that_the_parent_takes() {
    on_6_18(
        "map [0,2) rw
         write 0
         map [10,12) rw
         fork                   => [0,2)rw:X2* [10,12)rw
         map [2,4) rw           => [0,2)rw:X2* [2,4)rw [10,12)rw
         map [12,14) rw         => [0,2)rw:X2* [2,4)rw [10,14)rw
         given [0,2)rw:X1 [10,12)rw
         map [2,4) rw           => [0,4)rw:X1 [10,12)rw",
    );
}

/// Rules: v2.3.6, v2.3.13, v2.4.6.
#[test]
fn p05_a_split_heals_when_protection_comes_back() {
    on_6_18(
        "map [0,6) rw
         write 0
         mprotect [2,4) r       => [0,2)rw:X1 [2,4)r:ac,X1 [4,6)rw:X1
         mprotect [2,4) rw      => [0,6)rw:X1",
    );
}

/// Rules: v2.3.7.
#[test]
fn p06_ranges_faulted_under_different_flags_never_join() {
    on_6_18(
        "map [10,14) rw
         madvise [12,14) dontfork  => [10,12)rw [12,14)rw:dc
         write 10
         write 12               => [10,12)rw:X1 [12,14)rw:dc,X2
         madvise [12,14) dofork => [10,12)rw:X1 [12,14)rw:X2",
    );
}

/// Rules: v2.6.3, v2.8.2.
#[test]
fn p07_one_munmap_over_five() {
    on_6_18(
        "given [0,3)rw [4,7)rw [8,11)rw [12,15)rw [16,19)rw
         munmap [1,18)          => [0,1)rw [18,19)rw",
    );
}

/// Rules: v2.7.17.
#[test]
fn p08_fixed_mappings_replace_and_join() {
    on_6_18(
        "given [0,4)rw [4,8)r [8,12)rw
         map [4,8) rw           => [0,12)rw
         map [2,10) r           => [0,2)rw [2,10)r [10,12)rw
         map [0,12) rw          => [0,12)rw",
    );
}

/// Rules: v2.10.3, v2.10.5.
#[test]
fn p09_growing_in_place_closes_the_gap() {
    on_6_18(
        "given [0,4)rw [8,12)rw
         mremap [0,4) 2         => [0,2)rw [8,12)rw
         mremap [0,2) 8         => [0,12)rw",
    );
}

/// Rules: v2.2.7, v2.3.13, v2.10.6.
#[test]
fn p10_a_moved_mapping_joins_by_its_page_offset() {
    on_6_18(
        "given [0,4)rw [20,24)rw
         mremap [0,4) [24,28)   => [20,28)rw
         given [0,4)rw:X1 [20,24)rw
         mremap [0,4) [24,28)   => [20,24)rw [24,28)rw:pg=0,X1
         mremap [24,28) [0,4)   => [0,4)rw:X1 [20,24)rw
         map [4,6) rw           => [0,6)rw:X1 [20,24)rw",
    );
}

/// Rules: v2.10.6.
#[test]
fn p10b_an_unfaulted_mapping_may_join_its_own_source() {
    on_6_18(
        "given [0,8)rw
         mremap [0,2) [8,10)    => [2,10)rw",
    );
}

/// Rules: v2.10.10.
#[test]
fn p11_dontunmap_leaves_an_unfaulted_source() {
    on_6_18(
        "map [0,4) rw
         write 0
         mremap [0,4) [20,24) keep  => [0,4)rw [20,24)rw:pg=0,X1
         map [4,6) rw           => [0,6)rw [20,24)rw:pg=0,X1
         map [24,26) rw         => [0,6)rw [20,24)rw:pg=0,X1 [24,26)rw",
    );
}

/// Rules: v2.9.1, v2.9.2, v2.9.9.
#[test]
fn p13_mprotect_stops_at_a_hole_and_an_advice_goes_on() {
    on_6_18(
        "given [0,4)rw [4,8)r [10,14)rw
         mprotect [1,12) --- = ENOMEM     => [0,1)rw [1,8)--- [10,14)rw
         madvise [6,12) dontfork = ENOMEM => [0,1)rw [1,6)--- [6,8)---:dc [10,12)rw:dc [12,14)rw",
    );
}

/// Rules: v2.1.3, v2.9.10.
#[test]
fn p14_the_charge_decides_whether_read_only_ranges_join() {
    on_6_18(
        "given [0,2)r [2,4)rw
         mprotect [2,4) r       => [0,4)r
         given [0,2)r [2,4)rw:X1
         mprotect [2,4) r       => [0,2)r [2,4)r:ac,X1
         given [0,2)rw [2,4)r
         mprotect [2,4) rw      => [0,4)rw",
    );
}

/// Rules: v2.4.9, v2.9.7, v2.9.8.
#[test]
fn p17_registering_splits_and_unregistering_heals() {
    on_6_18(
        "map [70,72) rw
         map [72,74) rw noreserve
         map [76,78) rw
         register 1 [71,77) um  => [70,71)rw [71,72)rw:um@1 [72,74)rw:nr,um@1 [76,77)rw:um@1 [77,78)rw
         unregister 1 [70,78)   => [70,72)rw [72,74)rw:nr [76,78)rw",
    );
}

/// Rules: v2.8.2, v2.9.1, v2.9.15.
#[test]
fn p18_a_seal_stops_unmapping_and_protecting_but_not_the_splits_before_it() {
    on_6_18(
        "map [0,4) rw
         map [4,8) r
         mseal [6,7)            => [0,4)rw [4,6)r [6,7)r:sl [7,8)r
         munmap [2,7) = EPERM   => [0,2)rw [2,4)rw [4,6)r [6,7)r:sl [7,8)r
         mprotect [0,8) --- = EPERM  => [0,6)--- [6,7)r:sl [7,8)r",
    );
}

/// Rules: v2.10.12.
#[test]
fn p22_the_heap_keeps_a_page_free_below_what_lies_above() {
    on_6_18(
        "heap 0
         brk 4                  => [0,4)rw
         write 0
         map [8,12) rw
         brk 7                  => [0,7)rw:X1 [8,12)rw
         brk 8 = ENOMEM         => [0,7)rw:X1 [8,12)rw
         munmap [8,12)
         brk 2                  => [0,2)rw:X1
         mprotect [1,2) r       => [0,1)rw:X1 [1,2)r:ac,X1
         brk 4                  => [0,1)rw:X1 [1,2)r:ac,X1 [2,4)rw
         brk 1                  => [0,1)rw:X1",
    );
}

/// Rules: v2.2.1, v2.4.9, v2.9.6.
#[test]
fn p23_policies_are_compared_by_value() {
    on_6_18(
        "map [30,34) rw
         mbind [31,33) 1        => [30,31)rw [31,33)rw:mp1 [33,34)rw
         mbind [30,34) 0        => [30,34)rw
         mbind [31,33) 1
         mbind [30,31) 1        => [30,33)rw:mp1 [33,34)rw",
    );
}

/// Rules: v2.5.1.
#[test]
fn p24_the_first_split_stays_when_the_second_is_refused() {
    on_6_18(
        "given [0,1)rw [12,15)rw
         max 3
         mprotect [13,14) r = ENOMEM  => [0,1)rw [12,13)rw [13,15)rw",
    );
}

/// Rules: v2.3.3, v2.3.5, v2.3.6.
#[test]
fn q02_halves_of_a_forked_vma_heal_but_take_in_nothing_new() {
    on_6_18(
        "map [0,6) rw
         write 0
         fork                   => [0,6)rw:X2*
         mprotect [2,4) r       => [0,2)rw:X2* [2,4)r:ac,X2* [4,6)rw:X2*
         mprotect [2,4) rw      => [0,6)rw:X2*
         map [6,8) rw           => [0,6)rw:X2* [6,8)rw
         given [20,24)rw [24,28)rwx:X5*
         mprotect [24,28) rw    => [20,24)rw [24,28)rw:X5*",
    );
}

/// Rules: v2.6.1, v2.6.2, v2.6.3, v2.6.4, v2.6.5, v2.6.6, v2.6.11, v2.7.4.
#[test]
fn the_map_count_limit_bites_where_table_v2_6_says() {
    on_6_18(
        "given [0,3)rw [10,13)rw
         max 2
         munmap [1,2) = ENOMEM      => [0,3)rw [10,13)rw
         munmap [1,11)              => [0,1)rw [11,13)rw
         map [20,21) rw             => [0,1)rw [11,13)rw [20,21)rw
         map [30,31) rw = ENOMEM    => [0,1)rw [11,13)rw [20,21)rw
         map [0,1) r = ENOMEM       => [0,1)rw [11,13)rw [20,21)rw
         max 3
         map [0,1) r                => [0,1)r [11,13)rw [20,21)rw
         madvise [11,12) random = EAGAIN  => [0,1)r [11,13)rw [20,21)rw
         mlock [11,12) = ENOMEM     => [0,1)r [11,13)rw [20,21)rw
         mseal [11,12) = ENOMEM     => [0,1)r [11,13)rw [20,21)rw
         register 1 [11,12) um = ENOMEM   => [0,1)r [11,13)rw [20,21)rw
         mbind [11,12) 1 = ENOMEM   => [0,1)r [11,13)rw [20,21)rw
         mremap [11,13) 1           => [0,1)r [11,12)rw [20,21)rw
         mremap [11,12) 3           => [0,1)r [11,14)rw [20,21)rw",
    );
}

/// Rules: v2.6.6, v2.6.7, v2.6.8.
#[test]
fn moves_need_room_for_what_they_might_split() {
    on_6_18(
        "given [0,4)rw [10,11)r
         max 5
         mremap [0,2) 3 move = ENOMEM        => [0,4)rw [10,11)r
         max 7
         mremap [0,2) [20,22) = ENOMEM       => [0,4)rw [10,11)r
         max 8
         mremap [0,2) [20,22)                => [2,4)rw [10,11)r [20,22)rw",
    );
    case(
        Rules::LINUX_7_1,
        "given [0,4)rw [10,11)r
         max 5
         mremap [0,4) 2 = ENOMEM             => [0,4)rw [10,11)r",
    );
}

/// Rules: v2.3.4, v2.3.8, v2.10.8, v2.10.9, v2.10.10.
/// Rules: v2.12.1, v2.12.2, v2.12.3, v2.12.4, v2.12.5, v2.12.6, v2.12.7, v2.12.8, v2.12.9.
#[test]
fn kernels_differ_where_table_v2_12_says() {
    // A faulted range beside an unfaulted neighbour.
    let faulted = "given [0,2)rw [2,4)r:ac,X1\n mprotect [2,4) rw => ";
    on_6_18(&format!("{faulted} [0,4)rw:X1"));
    case(Rules::LINUX_6_12, &format!("{faulted} [0,2)rw [2,4)rw:X1"));
    // Several VMAs in one move.
    let several = "given [0,2)rw [4,6)r\n mremap [0,6) [10,16)";
    on_6_18(&format!("{several} => [10,12)rw [14,16)r"));
    case(Rules::LINUX_6_12, &format!("{several} = EFAULT => [0,2)rw [4,6)r"));
    // What DONTUNMAP leaves behind: the source may join its copy, and keeps a stale offset.
    let beside = "given [0,4)rw\n mremap [0,4) [4,8) keep";
    on_6_18(&format!("{beside} => [0,8)rw"));
    case(Rules::LINUX_6_12, &format!("{beside} => [0,4)rw [4,8)rw"));
    let stale = "given [10,14)rw:pg=0,X1\n mremap [10,14) [0,4) keep";
    on_6_18(&format!("{stale} => [0,4)rw:X1 [10,14)rw:pg=0"));
    case(Rules::LINUX_6_12, &format!("{stale} => [0,4)rw:X1 [10,14)rw"));
    // DONTUNMAP of a part of a locked VMA.
    let locked = "given [0,4)rw:lo,X1\n mremap [1,3) [40,42) keep";
    on_6_18(&format!("{locked} => [0,4)rw:X1 [40,42)rw:lo,pg=1,X1"));
    case(
        Rules::LINUX_6_12,
        &format!("{locked} => [0,1)rw:lo,X1 [1,3)rw:pg=1 [3,4)rw:lo,X1 [40,42)rw:lo,pg=1,X1")
            .replace("[1,3)rw:pg=1 ", "[1,3)rw "),
    );
    // Another context's registration.
    let foreign = "given [0,4)rw:um@1\n unregister 2 [0,2)";
    on_6_18(&format!("{foreign} = EINVAL => [0,4)rw:um@1"));
    case(Rules::LINUX_6_12, &format!("{foreign} => [0,2)rw [2,4)rw:um@1"));
    // Guards stick.
    let guards = "given [0,2)rw:gu,X1 [4,6)rw\n map [2,4) rw";
    on_6_18(&format!("{guards} => [0,6)rw:gu,X1"));
    case(Rules::LINUX_6_12, &format!("{guards} => [0,2)rw:gu,X1 [2,6)rw"));
    // Droppable memory is registered.
    let droppable = "given [0,2)rw:dp\n register 1 [0,2) um";
    on_6_18(&format!("{droppable} = EINVAL => [0,2)rw:dp"));
    case(Rules::LINUX_6_12, &format!("{droppable} => [0,2)rw:um@1,dp"));
    // A source that cannot move is noticed before or after the target has gone.
    let source = "given [0,2)rw [2,4)r [10,14)r\n mremap [0,3) [10,14) = EFAULT";
    on_6_18(&format!("{source} => [0,2)rw [2,4)r [10,14)r"));
    case(Rules::LINUX_6_12, &format!("{source} => [0,2)rw [2,4)r"));
    // What grows in place joins unfaulted memory above it, whatever its chain.
    let grown = "given [0,2)rw:X1* [3,5)rw\n mremap [0,2) 3";
    on_6_18(&format!("{grown} => [0,5)rw:X1*"));
    case(Rules::LINUX_6_12, &format!("{grown} => [0,3)rw:X1* [3,5)rw"));
    let other = "given [0,2)rw:X1* [3,5)rw:X2*\n mremap [0,2) 3";
    on_6_18(&format!("{other} => [0,3)rw:X1* [3,5)rw:X2*"));
}

/// Rules: v2.12.10.
#[test]
fn kernel_7_1_differs_from_6_18_in_one_limit() {
    let limit = Rules { mremap_limit_up_front: false, ..Rules::LINUX_7_1 };
    assert_eq!(limit, Rules::LINUX_6_18);
    assert_ne!(Rules::LINUX_7_1, Rules::LINUX_6_18);
}
