//! The language itself: that a wrong table is reported, and that no text is taken for a
//! layout that is none.

use shims::Addr;

use super::super::{AddressSpace, LayoutError, Rules};
use super::language::try_case;

#[test]
fn a_step_that_ends_otherwise_is_reported() {
    let rules = Rules::LINUX_6_18;
    let wrong = [
        "map [0,2) rw => [0,3)rw",
        "map [0,2) rw = ENOMEM",
        "given [0,2)rw\n mprotect [0,4) r => [0,2)r",
    ];
    for text in wrong {
        assert!(try_case(rules.clone(), text).is_err(), "{text}");
    }
}

#[test]
fn a_text_that_is_no_layout_says_which_word_is_wrong() {
    let parse = |text| AddressSpace::from_layout(Rules::LINUX_6_18, Addr::ZERO, text).unwrap_err();
    assert_eq!(parse("[2,2)rw"), LayoutError::Range("[2,2)rw".into()));
    assert_eq!(parse("2,4 rw"), LayoutError::Range("2,4".into()));
    assert_eq!(parse("[0,2)rq"), LayoutError::Word("rq".into()));
    assert_eq!(parse("[0,2)rw:zz"), LayoutError::Word("zz".into()));
    assert_eq!(parse("[0,4)rw [2,6)r"), LayoutError::Order("[2,6)r".into()));
    assert!(parse("[0,2)rw:zz").to_string().contains("`zz` is no attribute"));
}
