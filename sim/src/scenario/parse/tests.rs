//! What the parser says to text that is no scenario.

use super::*;

fn error(text: &str) -> String {
    parse("t.fbs", text).expect_err("the text is malformed").to_string()
}

#[test]
fn errors_name_file_line_column_and_what_was_expected() {
    let head = "faultbed scenario 1\nname x\nmemory 4 pages\n";
    let case = |body: &str| error(&format!("{head}{body}"));
    assert_eq!(error(""), "t.fbs:1:1: expected `faultbed scenario 1`, found an empty file");
    assert_eq!(error("# only\nfoo\n"), "t.fbs:2:1: expected `faultbed scenario 1`, found `foo`");
    assert_eq!(
        case("handler scritp\n"),
        "t.fbs:4:9: expected `script`, found `scritp`; without this line the handler is \
         faultbed's own"
    );
    assert_eq!(
        case("task a\n  read 4\n"),
        "t.fbs:5:8: `4` reaches beyond the memory, which has 4 pages"
    );
    assert_eq!(
        case("task a\n  read x\n"),
        "t.fbs:5:8: expected a page or a range `A..B` of pages, found `x`"
    );
    assert_eq!(
        case("task a\n  read\n"),
        "t.fbs:5:7: expected a page or a range `A..B`, found the end of the line"
    );
    assert_eq!(case("task a\n  dontneed 2..2\n"), "t.fbs:5:12: the range `2..2` is empty");
    assert_eq!(
        case("task a\n  read 1 => zero\n"),
        "t.fbs:5:10: expected `->` or the end, found `=>`"
    );
    assert_eq!(case("task a\n  await x\n"), "t.fbs:5:9: nobody posts `x`");
    assert_eq!(
        case("task a\n  read 1 -> ok ok\n"),
        "t.fbs:5:16: expected the end of the line, found `ok`"
    );
    assert_eq!(case("task clock\n"), "t.fbs:4:6: `clock` is the name of another actor");
    assert_eq!(case("task a\ntask a\n"), "t.fbs:5:6: there is a task `a` already");
    assert_eq!(case("memory 4 pages\n"), "t.fbs:4:1: `memory` was given already, on line 3");
    assert!(case("mishaps eagain bad-luck\n").starts_with("t.fbs:4:16: expected one of eintr,"));
    assert_eq!(case("mishaps panic panic\n"), "t.fbs:4:15: `panic` was given already");
    assert_eq!(
        case("mishaps death 2\n"),
        "t.fbs:4:15: expected how often it may happen from 1 to 1, found 2"
    );
    assert_eq!(
        case("mishaps\n"),
        "t.fbs:4:8: expected the name of a mishap, found the end of the line"
    );
    assert_eq!(
        case("mishaps shutdown\ntask a\n  fork b\ntask b\n"),
        "t.fbs:4:1: processes that fork are neither killed nor left by their handler"
    );
    assert_eq!(case(""), "t.fbs:3:1: expected at least one `task`");
    assert_eq!(
        case("profile 9.9\n"),
        "t.fbs:4:9: expected one of 5.7, 5.13, 5.15, 6.1, 6.6, 6.12, 6.18, found `9.9`"
    );
    // What the kernel refuses, a scenario cannot ask for.
    let refused = |memory: &str, profile: &str| {
        error(&format!(
            "faultbed scenario 1\nname x\nmemory 2 pages {memory}\nprofile {profile}\n\
             task a\n  read 0\n"
        ))
    };
    assert!(
        refused("shmem missing minor", "5.7")
            .ends_with("Linux 5.7 has no `minor` for memory that is `shmem`")
    );
    assert!(
        refused("hugetlb missing wp", "5.15")
            .ends_with("Linux 5.15 has no `wp` for memory that is `hugetlb`")
    );
    assert!(
        case("task a\n  frobnicate 1\n").contains("t.fbs:5:3: expected an operation (read, write,")
    );
}
