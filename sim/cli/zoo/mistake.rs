//! The list of the zoo: mistakes of the plain handler and of ours, each with the world that is to
//! find it out. Owns the list; how a world is searched is `hunt.rs`.

use std::sync::Arc;
use std::time::Duration;

use handler::{Backoff, Policy, Slip};
use sim::coop::{Check, Coop};
use sim::world::{Mishap, Setup, World};

use super::flaw::Flaw;
use super::plain::{self, Trouble};
use super::worlds::{self, Place};
use crate::catalogue;
use crate::model::Model;
use crate::tamper::Tamper;

/// A wrong handler, and its world.
#[derive(Clone, Debug)]
pub struct Mistake {
    /// Its name on the command line.
    pub key: &'static str,
    /// Which entries of the list of known bugs it stands for.
    pub entry: &'static str,
    /// What is wrong.
    pub about: &'static str,
    /// Where it is to be found.
    pub place: Place,
    pub(super) kind: Kind,
}

/// What is wrong.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// The plain handler.
    Plain(Flaw),
    /// Our machine, by what it is told and by what it asks for.
    Ours(Tamper),
    /// Our machine, by its policy.
    Policy(fn() -> Policy),
}

/// Our handler's decisions that are wrong on purpose: entry, name, world, what, how.
type Decision = (&'static str, &'static str, &'static str, &'static str, fn() -> Policy);

const DECISIONS: [Decision; 7] = [
    (
        "B1",
        "trusts-records",
        "lost_install",
        "Our handler, with records that decide whether a page is there.",
        Policy::short_circuit,
    ),
    (
        "A40",
        "removed-is-written",
        "wp_stale_write_fault",
        "A page that was given up while it was un-protected counts as written.",
        || Policy::slipping(Slip::RemovedIsWritten),
    ),
    (
        "A46",
        "baseline-late",
        "wp_baseline",
        "Writers go on before the pages that were saved are made clean.",
        || Policy::slipping(Slip::BaselineLate),
    ),
    (
        "A45",
        "cancelled-counts",
        "baseline_cancelled",
        "A baseline that is cancelled while its bytes are being saved counts as taken.",
        || Policy::slipping(Slip::CancelledCounts),
    ),
    (
        "commit",
        "read-overwrites",
        "written_and_read",
        "A read fault that finds its page there makes it clean, although it was written.",
        || Policy::slipping(Slip::ReadOverwrites),
    ),
    (
        "commit",
        "probes-kept",
        "two_snapshots",
        "What the kernel said of a page for one snapshot is believed for the next one.",
        || Policy::slipping(Slip::ProbesKept),
    ),
    (
        "B9, errno",
        "no-pause",
        "held_up",
        "Our handler, without a pause between attempts against EAGAIN.",
        || {
            let mut policy = Policy::default();
            policy.defer = Backoff { initial: Duration::ZERO, max: Duration::ZERO };
            policy
        },
    ),
];

/// All of them.
pub fn all() -> Vec<Mistake> {
    let plain = Flaw::ALL.iter().map(|flaw| Mistake {
        key: flaw.key(),
        entry: flaw.id(),
        about: flaw.about(),
        place: worlds::of(*flaw),
        kind: Kind::Plain(*flaw),
    });
    let ours = Tamper::ALL.iter().map(|&(tamper, entry, key, world)| Mistake {
        key,
        entry,
        about: tamper.about(),
        place: built_in(world),
        kind: Kind::Ours(tamper),
    });
    let decisions = DECISIONS.iter().map(|&(entry, key, world, about, policy)| Mistake {
        key,
        entry,
        about,
        place: built_in(world),
        kind: Kind::Policy(policy),
    });
    plain.chain(ours).chain(decisions).collect()
}

/// Every world in which a mistake is to be found: right handlers survive them.
pub fn places() -> Vec<Place> {
    let mut places: Vec<Place> = all().into_iter().map(|mistake| mistake.place).collect();
    places.extend(worlds::all());
    places.sort_by_key(|place| place.name);
    places.dedup_by_key(|place| place.name);
    places
}

/// A world of the zoo, or a built-in scenario.
fn built_in(name: &'static str) -> Place {
    if let Some(place) = worlds::named(name) {
        return place;
    }
    let entry = catalogue::find(name).expect("a built-in scenario");
    Place { name, setup: Arc::new(entry.setup), trouble: Trouble::None }
}

/// The plain handler with `flaw`, for the worlds of a place.
pub fn check(flaw: Option<Flaw>, place: &Place) -> Check {
    let (workers, trouble) = (place.setup.workers.max(1), place.trouble);
    let stops = place.setup.mishaps.times(Mishap::Shutdown) > 0;
    let main = move |bed| plain::serve(bed, workers, stops, flaw, trouble);
    let own = [stops, trouble.prefetches(), trouble.is_stuck()];
    let others = own.into_iter().filter(|own| *own).count();
    Check::new(main).threads(workers * trouble.starts() + 1 + others)
}

/// Puts a mistaken handler into worlds.
pub enum Maker {
    /// The plain one.
    Plain(Check),
    /// Ours.
    Ours(Policy, Option<Tamper>),
}

impl Mistake {
    /// What puts the wrong handler into worlds.
    pub fn maker(&self) -> Maker {
        match self.kind {
            Kind::Plain(flaw) => Maker::Plain(check(Some(flaw), &self.place)),
            Kind::Ours(tamper) => Maker::Ours(Policy::default(), Some(tamper)),
            Kind::Policy(policy) => Maker::Ours(policy(), None),
        }
    }
}

/// Our handler in a world, with a hand in between if there is one.
pub fn ours(policy: &Policy, tamper: Option<Tamper>, setup: &Arc<Setup>) -> World<Model> {
    let model = match tamper {
        Some(tamper) => Model::tampered(policy.clone(), setup, tamper),
        None => Model::new(policy.clone(), setup),
    };
    World::new(Arc::clone(setup), model)
}

/// Our driver, as it ships, in a world.
pub fn driver(setup: &Arc<Setup>) -> World<Coop> {
    World::new(Arc::clone(setup), crate::coop::threads(Policy::default(), setup))
}
