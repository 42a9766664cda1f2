//! The cases of the kernel's own harness for merging, mapping and copying, by their names
//! there (docs/kernel/vma.md, v3.1 and v3.2). Sticky flags are `gu`.

use super::super::{Prot, VmaFlags};
use super::on_6_18;

/// Rules: v2.3.1, v2.4.1.
#[test]
fn simple_merge() {
    on_6_18("given [0,1)rw [2,3)rw\n new [1,2)rw => [0,3)rw");
}

/// Rules: v2.4.7, v2.5.1.
#[test]
fn simple_modify() {
    on_6_18("given [0,3)rw\n modify [1,2)rw => [0,1)rw [1,2)rw [2,3)rw");
}

#[test]
fn simple_expand() {
    on_6_18("given [0,1)rw\n mremap [0,1) 3 => [0,3)rw");
}

#[test]
fn simple_shrink() {
    on_6_18("given [0,3)rw\n mremap [0,3) 1 => [0,1)rw");
}

/// All sixteen ways to put a sticky flag on the new range and on A, B and C.
/// Rules: v2.2.2, v2.4.1, v2.4.2, v2.4.3.
#[test]
fn merge_new() {
    for bits in 0..16u32 {
        let sticky = |bit: u32| bits & (1 << bit) != 0;
        let gu = |on: bool| if on { "gu," } else { "" };
        let (new, a, b, c) = (sticky(0), sticky(1), sticky(2), sticky(3));
        let after = |range: &str, on: bool, rest: &str| {
            format!("{range}rw:{}{rest}", gu(on)).trim_end_matches([',', ':']).to_owned()
        };
        let n = if new { ":gu" } else { "" };
        let left = new || a || b;
        let (a_first, b_first) = (after("[0,2)", a, "close"), after("[3,4)", b, "X1"));
        let (c_first, c_faulted) = (after("[11,12)", c, ""), after("[11,12)", c, "X1"));
        let d_new = after("[7,9)", new, "");
        // A keeps its hook, which never matters, until the step after D has lost its own.
        let (a2, a3) = (after("[0,4)", left, "X1,close"), after("[0,5)", left, "X1,close"));
        let (d_hook, d4) = (after("[7,9)", new, "X1,close"), after("[6,9)", new, "X1,close"));
        let (a4, d5) = (after("[0,5)", left, "X1"), after("[6,9)", new, "X1"));
        let (a5, c6) = (after("[0,9)", left, "X1"), after("[10,12)", c || new, "X1"));
        let a7 = after("[0,12)", left || c, "X1");
        on_6_18(&format!(
            "given {a_first} {b_first} {c_first}
             new [7,9)rw{n}   => {a_first} {b_first} {d_new} {c_first}
             new [2,3)rw{n}   => {a2} {d_new} {c_first}
             new [4,5)rw{n}   => {a3} {d_new} {c_first}
             given {a3} {d_hook} {c_first}
             new [6,7)rw{n}   => {a3} {d4} {c_first}
             given {a4} {d5} {c_faulted}
             new [5,6)rw{n}   => {a5} {c_faulted}
             new [10,11)rw{n} => {a5} {c6}
             new [9,10)rw{n}  => {a7}"
        ));
    }
}

/// Rules: v2.2.9.
#[test]
fn vma_merge_special_flags() {
    let special = VmaFlags::IO | VmaFlags::DONTEXPAND | VmaFlags::PFNMAP | VmaFlags::MIXEDMAP;
    assert_eq!(VmaFlags::SPECIAL, special);
    for token in ["io", "de", "pf", "mm"] {
        on_6_18(&format!(
            "given [0,3)rw:{token}
             new [3,4)rw:{token} => [0,3)rw:{token} [3,4)rw:{token}
             given [0,3)rw:{token} [3,4)rw
             modify [3,4)rw:{token} => [0,3)rw:{token} [3,4)rw:{token}"
        ));
    }
}

/// Rules: v2.2.10.
#[test]
fn vma_merge_with_close() {
    on_6_18(
        "given [0,3)rw [5,9)rw:close
         new [3,5)rw             => [0,5)rw [5,9)rw:close
         given [0,3)rw [3,5)r:close
         modify [3,5)rw          => [0,3)rw [3,5)rw:close
         given [3,5)r:close [5,9)rw
         modify [3,5)rw          => [3,5)rw:close [5,9)rw
         given [0,3)rw [3,5)r:close [5,9)rw
         modify [3,5)rw          => [0,3)rw [3,5)rw:close [5,9)rw
         given [0,3)rw [3,5)r [5,9)rw:close
         modify [3,5)rw          => [0,5)rw [5,9)rw:close",
    );
}

/// Rules: v2.2.10.
#[test]
fn vma_merge_new_with_close() {
    on_6_18(
        "given [0,2)rw:close [5,7)rw:close
         new [2,5)rw             => [0,5)rw:close [5,7)rw:close",
    );
}

/// All eight ways to put a sticky flag on P, M and N.
/// Rules: v2.2.2, v2.4.4, v2.4.5, v2.4.6.
#[test]
fn merge_existing() {
    for bits in 0..8u32 {
        let (p, m, n) = (bits & 1 != 0, bits & 2 != 0, bits & 4 != 0);
        let gu = |on: bool| if on { "gu" } else { "" };
        let make = |range: &str, prot: &str, on: bool, rest: &str| {
            let words: Vec<&str> = [gu(on), rest].into_iter().filter(|w| !w.is_empty()).collect();
            let colon = if words.is_empty() { "" } else { ":" };
            format!("{range}{prot}{colon}{}", words.join(","))
        };
        let want = |range: &str| make(range, "rw", m, "");
        let (mr, rest) = (make("[2,6)", "r", m, "ac,X1"), make("[2,3)", "r", m, "ac,X1,close"));
        let mr_hook = make("[2,6)", "r", m, "ac,X1,close");
        // Words are printed in one order: `ac` comes before `gu`.
        let fix = |text: String| text.replace("gu,ac", "ac,gu");
        let (mr, mr_hook, rest) = (fix(mr), fix(mr_hook), fix(rest));
        let n_right = make("[6,9)", "rw", n, "close");
        let grown = |range: &str, on: bool, tail: &str| make(range, "rw", on, tail);
        on_6_18(&format!(
            "given {mr_hook} {n_right}
             modify {}   => {rest} {}
             given {mr} {n_right}
             modify {}   => {}",
            want("[3,6)"),
            grown("[3,9)", m || n, "X1,close"),
            want("[2,6)"),
            grown("[2,9)", m || n, "X1,close"),
        ));
        let (m37, m67) = (make("[3,7)", "r", m, "ac,X1"), make("[6,7)", "r", m, "ac,X1,close"));
        let (m37_hook, m67) = (fix(make("[3,7)", "r", m, "ac,X1,close")), fix(m67));
        let m37 = fix(m37);
        let (p03, n79) = (make("[0,3)", "rw", p, "close"), make("[7,9)", "rw", n, ""));
        on_6_18(&format!(
            "given {p03} {m37_hook}
             modify {}   => {} {m67}
             given {p03} {m37}
             modify {}   => {}
             given {p03} {m37} {n79}
             modify {}   => {}",
            want("[3,6)"),
            grown("[0,6)", p || m, "X1,close"),
            want("[3,7)"),
            grown("[0,7)", p || m, "X1,close"),
            want("[3,7)"),
            grown("[0,9)", p || m || n, "X1,close"),
        ));
        for inner in ["[4,5)", "[5,6)", "[6,7)", "[4,7)", "[4,6)"] {
            let (p, m, n) = ("[0,3)rw", "[3,8)r:ac,X1", "[8,10)rw");
            let (start, end) = (&inner[1..2], &inner[3..4]);
            on_6_18(&format!(
                "given {p} {m} {n}
                 modify {inner}rw => {p} [3,{start})r:ac,X1 {inner}rw:X1 [{end},8)r:ac,X1 {n}"
            ));
        }
    }
}

/// Rules: v2.2.6, v2.3.9.
#[test]
fn anon_vma_non_mergeable() {
    on_6_18(
        "given [0,3)rw:X1 [3,7)r:ac [7,9)rw:X2
         modify [3,7)rw          => [0,7)rw:X1 [7,9)rw:X2
         given [0,3)rw:X1 [7,9)rw:X2
         new [3,7)rw             => [0,7)rw:X1 [7,9)rw:X2",
    );
}

/// Rules: v2.3.4, v2.3.10.
#[test]
fn dup_anon_vma() {
    on_6_18(
        "given [0,3)rw [3,5)r:ac [5,8)rw:X1
         modify [3,5)rw          => [0,8)rw:X1
         given [0,3)rw [3,5)r:ac,X1 [5,8)rw
         modify [3,5)rw          => [0,8)rw:X1
         given [0,3)rw [3,8)r:ac,X1
         modify [3,5)rw          => [0,5)rw:X1 [5,8)r:ac,X1
         given [0,5)r:ac,X1 [5,8)rw
         modify [3,5)rw          => [0,3)r:ac,X1 [3,8)rw:X1
         given [0,3)rw [5,8)rw:X1
         mremap [0,3) 5          => [0,8)rw:X1",
    );
}

/// Rules: v2.10.5.
#[test]
fn merge_extend() {
    on_6_18("given [0,1)rw [3,4)rw\n mremap [0,1) 3 => [0,4)rw");
}

/// Rules: v2.4.8.
#[test]
fn expand_only_mode() {
    on_6_18(
        "given [0,2)rw [3,5)rw
         new [5,9)rw left-only   => [0,2)rw [3,9)rw
         given [0,2)rw [9,12)rw
         new [5,9)rw left-only   => [0,2)rw [5,9)rw [9,12)rw",
    );
}

/// Rules: v2.1.1.
#[test]
fn mmap_region_basic() {
    on_6_18(
        "map [768,771) rw        => [768,771)rw
         map [592,595) rw        => [592,595)rw [768,771)rw
         map [771,774) rw        => [592,595)rw [768,774)rw
         map [589,592) rw        => [589,595)rw [768,774)rw",
    );
}

/// Rules: v2.10.10.
#[test]
fn copy_vma() {
    on_6_18(
        "given [3,5)rw
         mremap [3,5) [0,2) keep => [0,2)rw [3,5)rw
         given [0,2)rw [6,8)rw
         mremap [0,2) [4,6) keep => [0,2)rw [4,8)rw",
    );
}

// The kernel's tests of its flag word, as far as ours, one of 64 bits, has a counterpart.

#[test]
fn vma_flags_unchanged() {
    for (flag, token) in VmaFlags::TOKENS {
        assert_eq!(VmaFlags::from_token(token), Some(*flag));
        assert_eq!(flag.bits().count_ones(), 1);
        assert_eq!(VmaFlags::from_bits(flag.bits()), Some(*flag));
    }
    let all = VmaFlags::TOKENS.iter().fold(VmaFlags::empty(), |all, (flag, _)| all | *flag);
    assert_eq!(all.bits().count_ones() as usize, VmaFlags::TOKENS.len(), "each has its own bit");
}

#[test]
fn vma_flags_cleared() {
    let mut flags = VmaFlags::all();
    flags.remove(VmaFlags::all());
    assert_eq!(flags, VmaFlags::empty());
}

#[test]
fn vma_flags_word() {
    // Writing the low bits leaves the highest one alone.
    let high = VmaFlags::from_bits_retain(1 << (63 - VmaFlags::all().bits().leading_zeros()));
    let mut flags = VmaFlags::READ | high;
    flags |= VmaFlags::WRITE;
    flags.remove(VmaFlags::EXEC);
    assert_eq!(flags, VmaFlags::READ | VmaFlags::WRITE | high);
}

#[test]
fn vma_flags_test() {
    for (flag, _) in VmaFlags::TOKENS {
        let flags = VmaFlags::empty() | *flag;
        assert!(flags.contains(*flag));
        assert!(VmaFlags::TOKENS.iter().all(|(other, _)| other == flag || !flags.contains(*other)));
    }
}

#[test]
fn vma_flags_test_any() {
    let some = VmaFlags::READ | VmaFlags::MAYREAD | VmaFlags::SEQ_READ;
    assert!(some.intersects(VmaFlags::ACCESS) && !some.contains(VmaFlags::ACCESS));
    assert!(some.contains(VmaFlags::SEQ_READ | VmaFlags::READ));
    assert!(!some.intersects(VmaFlags::WRITE | VmaFlags::EXEC));
}

#[test]
fn vma_flags_clear() {
    for (a, b) in [(VmaFlags::READ, VmaFlags::WRITE), (VmaFlags::WRITE, VmaFlags::READ)] {
        let mut flags = VmaFlags::ACCESS;
        flags.remove(a);
        flags.remove(b);
        assert_eq!(flags, VmaFlags::EXEC);
        assert!(!flags.intersects(a | b));
        assert_eq!(flags | a | b, VmaFlags::ACCESS);
    }
}

#[test]
fn vma_flags_empty() {
    let mut flags = VmaFlags::ACCESS;
    assert!(!flags.is_empty());
    flags.remove(VmaFlags::ACCESS);
    assert!(flags.is_empty());
}

#[test]
fn vma_flags_diff() {
    let rwx = VmaFlags::ACCESS;
    let more = VmaFlags::READ | VmaFlags::WRITE | VmaFlags::MAYWRITE | VmaFlags::MAYEXEC;
    let diff = VmaFlags::EXEC | VmaFlags::MAYWRITE | VmaFlags::MAYEXEC;
    assert_eq!((rwx ^ more, more ^ rwx, rwx ^ rwx), (diff, diff, VmaFlags::empty()));
    assert_eq!(rwx ^ VmaFlags::empty(), rwx);
}

#[test]
fn vma_flags_and() {
    let rwx = VmaFlags::ACCESS;
    let more = VmaFlags::READ | VmaFlags::WRITE | VmaFlags::MAYWRITE | VmaFlags::MAYEXEC;
    assert_eq!(rwx & more, VmaFlags::READ | VmaFlags::WRITE);
    assert_eq!(rwx & rwx, rwx);
    assert!((rwx & (VmaFlags::IO | VmaFlags::MAYBE_GUARD)).is_empty());
}

#[test]
fn append_vma_flags() {
    let device = VmaFlags::IO | VmaFlags::PFNMAP | VmaFlags::DONTEXPAND | VmaFlags::DONTDUMP;
    let both = device | Prot::RW.flags();
    assert!(both.contains(device) && both.contains(Prot::RW.flags()));
    assert_eq!(VmaFlags::empty() | Prot::RW.flags(), VmaFlags::READ | VmaFlags::WRITE);
}

#[test]
fn vma_flags_count() {
    let mut flags = VmaFlags::ACCESS | VmaFlags::IO | VmaFlags::PFNMAP;
    let bits: Vec<VmaFlags> = flags.iter().collect();
    for (gone, flag) in bits.into_iter().enumerate() {
        assert_eq!(flags.bits().count_ones() as usize, 5 - gone);
        flags.remove(flag);
    }
    assert_eq!(flags.bits().count_ones(), 0);
}
