//! Where Linux 6.18.44 has put mappings, and where this layer does.
//!
//! The table was recorded by a program that first filled every gap above an address of its
//! own choice, so that what it maps without a hint goes right below that address. Places are
//! pages below it. A line is a call and what it returned, a place or an errno: `map` and
//! `huge` (`MAP_HUGETLB`) have no hint; `hint` has one, of so many pages and bytes off;
//! `noreplace` is `MAP_FIXED_NOREPLACE`, and `stack` is that with `MAP_GROWSDOWN`.

use super::super::{AddressSpace, Limits, MapFlags, Mmap, Prot, Rules};

const TOP: u64 = 0x7fff_f000_0000;

fn fresh() -> AddressSpace {
    let limits = Limits { mmap_base: TOP, ..Limits::default() };
    AddressSpace::with_limits(Rules::LINUX_6_18, limits)
}

/// A place as the table has it, or the errno.
fn perform(space: &mut AddressSpace, call: &str) -> i64 {
    let mut words = call.split(' ');
    let name = words.next().expect("a name");
    let numbers: Vec<u64> = words.map(|word| word.parse().expect("a number")).collect();
    let below = |pages: u64| TOP - (pages << 12);
    let map = |pages: u64| Mmap::anon(pages << 12, Prot::NONE).with(MapFlags::NORESERVE);
    let request = match (name, &numbers[..]) {
        ("map", [pages]) => map(*pages),
        ("huge", [pages]) => map(*pages).with(MapFlags::HUGETLB),
        ("hint", [at, bytes, pages]) => map(*pages).hint(below(*at) + bytes),
        ("noreplace", [at, pages]) => map(*pages).hint(below(*at)).with(MapFlags::FIXED_NOREPLACE),
        ("stack", [at, pages]) => {
            map(*pages).hint(below(*at)).with(MapFlags::FIXED_NOREPLACE | MapFlags::GROWSDOWN)
        }
        ("unmap", [at, pages]) => {
            let done = space.munmap(below(*at), pages << 12);
            return done.map_or_else(|refused| -i64::from(refused.errno.raw()), |_| 0);
        }
        _ => panic!("no call is written `{call}`"),
    };
    match space.mmap(&request) {
        Ok(mapped) => (TOP.wrapping_sub(mapped.addr.raw()) as i64) >> 12,
        Err(refused) => -i64::from(refused.errno.raw()),
    }
}

/// Rules: v2.11.1, v2.11.2.
#[test]
fn mappings_go_where_6_18_has_put_them() {
    let mut space = fresh();
    let mut calls = 0;
    for (number, line) in include_str!("placement_6_18.txt").lines().enumerate() {
        let Some((call, place)) = line.split_once(" = ") else {
            space = fresh();
            continue;
        };
        let place: i64 = place.parse().expect("a number");
        assert_eq!(perform(&mut space, call), place, "line {}: {call}", number + 1);
        assert_eq!(space.validate(), Ok(()));
        calls += 1;
    }
    assert_eq!(calls, 594, "the table is whole");
}
