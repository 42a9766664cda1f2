//! What makes a program likely to exercise a rule that was missed so far. Owns that table.

use shims::Features;

use super::cover::Rule;
use super::step::Setup;
use crate::judge::Kind;

/// What a program does more often than others.
#[derive(Clone, Copy, Debug)]
pub(super) struct Aim {
    /// Kinds of operations and of requests, by their numbers in the mixture.
    pub(super) ops: &'static [usize],
    pub(super) asks: &'static [usize],
    pub(super) features: Features,
    /// Features that would hide it.
    pub(super) without: Features,
    /// What the memory is registered for at first, if that matters.
    pub(super) modes: Option<u64>,
    /// Answers come late, so that queues grow.
    pub(super) lazy: bool,
    /// Which memory it needs.
    pub(super) fits: fn(&Setup) -> bool,
}

const fn any(_: &Setup) -> bool {
    true
}

impl Default for Aim {
    fn default() -> Aim {
        let features = Features::empty();
        Aim {
            ops: &[],
            asks: &[],
            features,
            without: features,
            modes: None,
            lazy: false,
            fits: any,
        }
    }
}

fn has(setup: &Setup, wanted: impl Fn(Kind) -> bool) -> bool {
    setup.pieces.iter().any(|piece| wanted(piece.kind))
}

/// How to come by that rule.
pub(super) fn at(rule: Rule) -> Aim {
    let none = Aim::default();
    let file = |setup: &Setup| has(setup, |kind| kind != Kind::Anon);
    let anon = |setup: &Setup| has(setup, |kind| kind == Kind::Anon);
    let huge: fn(&Setup) -> bool = Setup::is_huge;
    match rule {
        Rule::a11 | Rule::a12 => {
            Aim { ops: &[0, 5, 9], features: Features::EVENT_REMOVE, lazy: true, ..none }
        }
        Rule::a13 | Rule::a14 => Aim { asks: &[0], ..none },
        Rule::a18 => Aim { asks: &[12], ..none },
        Rule::a20 => Aim { asks: &[10], ..none },
        Rule::a23 | Rule::a28 | Rule::d25 | Rule::d28 => {
            Aim { ops: &[17, 19], features: Features::EVENT_FORK, ..none }
        }
        Rule::a25 | Rule::c1 | Rule::c4 | Rule::c7 | Rule::c11 => Aim { ops: &[0], ..none },
        Rule::b1 | Rule::e2 => Aim { asks: &[3, 4, 5], ..none },
        Rule::b2 | Rule::b6 | Rule::b7 => Aim { asks: &[1], ..none },
        Rule::b12 | Rule::b13 => Aim { ops: &[0], asks: &[2], lazy: true, ..none },
        Rule::c2 | Rule::e15 => Aim { asks: &[1, 5], fits: file, ..none },
        Rule::c3 | Rule::e17 | Rule::e18 | Rule::e19 => Aim { asks: &[1, 3, 6], ..none },
        Rule::c5 => Aim { features: Features::SIGBUS, ..none },
        Rule::c9 => Aim { ops: &[1, 2, 3, 4, 13], ..none },
        Rule::c12 | Rule::e16 => Aim { asks: &[7], ..none },
        Rule::c13 => Aim { ops: &[0, 5, 9, 10, 11], lazy: true, ..none },
        Rule::c15 => Aim { ops: &[10, 11, 13], ..none },
        Rule::d3 | Rule::d6 | Rule::d7 => {
            Aim { ops: &[5, 7], asks: &[3], features: Features::EVENT_REMOVE, ..none }
        }
        Rule::d4 => {
            let features = Features::EVENT_REMOVE.union(Features::EVENT_UNMAP);
            Aim { ops: &[5, 9], asks: &[0, 3], features, ..none }
        }
        Rule::d9 => Aim { ops: &[5, 8, 9], features: Features::EVENT_REMOVE, lazy: true, ..none },
        Rule::d11 => Aim { ops: &[6], asks: &[3], fits: anon, ..none },
        Rule::d12 | Rule::e11 => Aim { ops: &[15, 16], asks: &[3], fits: file, ..none },
        Rule::d14 => Aim { ops: &[8, 9], features: Features::EVENT_UNMAP, ..none },
        Rule::d18 => Aim { ops: &[11], features: Features::EVENT_REMAP, ..none },
        Rule::d19 => Aim { ops: &[11], without: Features::EVENT_REMAP, ..none },
        Rule::d26 => Aim { ops: &[17], asks: &[1, 3, 6], without: Features::EVENT_FORK, ..none },
        Rule::d34 => Aim { ops: &[18], ..none },
        Rule::e1 => {
            Aim { ops: &[5], asks: &[3, 4], features: Features::EVENT_REMOVE, lazy: true, ..none }
        }
        Rule::e3 | Rule::e5 | Rule::e6 | Rule::e10 => Aim { asks: &[3], ..none },
        Rule::e7 => Aim { asks: &[1, 3], ..none },
        Rule::e13 => Aim { asks: &[1, 3, 6], features: Features::WP_UNPOPULATED, ..none },
        Rule::e12 => Aim { asks: &[3], fits: huge, ..none },
        Rule::e14 => Aim { asks: &[4], ..none },
        Rule::e20 | Rule::e21 => Aim { asks: &[3, 8], fits: anon, ..none },
        Rule::e22 => Aim { asks: &[3, 6, 8], modes: Some(3), fits: anon, ..none },
        Rule::e23 => Aim { asks: &[9], ..none },
        Rule::f1 => Aim { asks: &[1, 6], ..none },
        Rule::f4 => Aim { ops: &[10], asks: &[1, 3, 6], ..none },
        Rule::f2 | Rule::f3 => {
            Aim { asks: &[1, 6], features: Features::WP_UNPOPULATED, fits: anon, ..none }
        }
        Rule::f5 => Aim { asks: &[1, 11], features: Features::WP_ASYNC, ..none },
    }
}
