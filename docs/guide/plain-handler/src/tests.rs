//! The search of the guide.

use shims::Errno;
use sim::coop::{Bed, Check, Found};

use crate::{first, fixed};

/// Two threads read pages; a third gives one back meanwhile, and reads it again.
const BALLOON: &str = "
faultbed scenario 1

name      balloon
about     A page is given back while it is read.
memory    2 pages

task one
  read 0
  read 1
task two
  read 0
task balloon
  dontneed 0 -> ok
  read 0 -> zero
";

/// Writes come into it, and two who give pages back.
const WRITES: &str = "
faultbed scenario 1

name      writes
about     Pages are written and given back by two.
memory    2 pages

task guest
  write 0
  write 1
  read 0
task one
  dontneed 0..2 -> ok
task two
  dontneed 0 -> ok
";

/// What goes wrong around a handler, when the search likes.
const UNLUCKY: &str = "
faultbed scenario 1

name      unlucky
about     Reads that find nothing or too little, installs that are refused, a slow source, a lull.
memory    2 pages
mishaps   spurious 2 short-batch eagain 2 source-late lull

task one
  read 0
  read 1 -> source
task balloon
  dontneed 0 -> ok
  read 0 -> zero
";

fn the_first(bed: Bed) -> Result<(), Errno> {
    let source = bed.source();
    let fill = move |page, buf: &mut [u8]| source.read_page(page, buf);
    first::serve(bed.uffd(), bed.waiter(), bed.memory(), fill)
}

fn the_fixed(bed: Bed) -> Result<(), Errno> {
    let source = bed.source();
    let fill = move |page, buf: &mut [u8]| source.read_page(page, buf);
    fixed::serve(bed.uffd(), bed.waiter(), bed.memory(), fill)
}

fn found() -> Found {
    let found = Check::new(the_first).search("balloon", BALLOON).expect("a well-formed scenario");
    found.expect("the first version installs stale bytes")
}

#[test]
fn the_first_version_installs_stale_bytes() {
    let found = found();
    assert_eq!(found.failure.class(), "stale", "{found}");
    assert!(found.after < 2_000, "{found}");
}

/// The guide shows pieces of this crate, and what the search says.
#[test]
fn the_guide_shows_what_is_here() {
    let guide = include_str!("../../test-your-handler.md");
    let found = found().to_string();
    let mut lines = found.lines().filter(|line| !line.is_empty());
    let (first, verdict) = (lines.next().unwrap(), lines.next_back().unwrap());
    let (_, picture) = guide.split_once(first).unwrap_or_else(|| panic!("not shown: {first}"));
    let (picture, _) =
        picture.split_once(verdict).unwrap_or_else(|| panic!("not below: {verdict}"));
    let mut rows = 0;
    for row in picture.lines().filter(|line| line.contains('|')) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let step = |line: &&str| line.split('|').next().map(str::trim) == Some(cells[0]);
        let line = found.lines().find(step).unwrap_or_else(|| panic!("no step is {row}"));
        assert!(cells.iter().all(|cell| line.contains(cell)), "{row}\nis\n{line}");
        rows += 1;
    }
    assert!(rows >= 8, "{rows} rows");
    let files = [
        include_str!("first.rs"),
        include_str!("fixed.rs"),
        include_str!("os.rs"),
        include_str!("tests.rs"),
        include_str!("../examples/real.rs"),
    ];
    let mut shown = 0;
    for block in guide.split("```rust\n").skip(1) {
        let block = block.split("```").next().expect("a block ends");
        for piece in block.split("    // ...\n") {
            assert!(files.iter().any(|file| file.contains(piece)), "no file has\n{piece}");
            shown += 1;
        }
    }
    assert!(shown >= 5, "{shown} pieces");
}

#[test]
fn the_fixed_version_holds() {
    Check::new(the_fixed).walks(20_000).holds([BALLOON, WRITES, UNLUCKY]);
}
