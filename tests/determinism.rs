//! Same seed, same bytes: in debug and in release builds, today and in every later version.
//!
//! The gate runs this test in both builds against one pinned digest. A change of the digest
//! means that seeds find other runs than before: that is a change users see, and belongs
//! into the changelog.

use std::sync::Arc;

use faultbed::campaign::{Campaign, Report};
use faultbed::catalogue;
use faultbed::shard::Shard;
use handler::Policy;
use sim::explore::Strategy;

/// The last scenario of the pinned campaign: what is added behind it leaves the digest alone.
const LAST: &str = "read_error";

fn campaign(handler: &str, seed: u64, schedules: u64) -> Campaign {
    let mut entries = catalogue::all();
    let first = 1 + entries.iter().position(|entry| entry.key == LAST).expect("it is there");
    entries.truncate(first);
    Campaign {
        setups: entries.into_iter().map(|entry| Arc::new(entry.setup)).collect(),
        handler: handler.to_owned(),
        policy: Policy::by_name(handler).expect("a handler"),
        seed,
        strategy: Strategy::Random,
        schedules,
        jobs: 1,
        shard: Shard::WHOLE,
        keep_going: true,
    }
}

fn run(handler: &str, seed: u64, schedules: u64) -> Report {
    campaign(handler, seed, schedules).run(|_| true)
}

/// The digest of 3,100 walks of the catalogue, up to `LAST`, from seed 42 with the default handler.
const PINNED: u64 = 0xae7a_e323_793c_aca5;

#[test]
fn the_digest_of_a_campaign_is_the_pinned_one_in_every_build() {
    let digest = run("default", 42, 3_100).digest;
    assert_eq!(digest, PINNED, "the digest is {digest:#018x}");
}

#[test]
fn a_repetition_gives_the_same_digest_and_the_same_failures() {
    let (first, second) = (run("short-circuit", 7, 3_100), run("short-circuit", 7, 3_100));
    assert_eq!(first.digest, second.digest);
    assert!(!first.found.is_empty(), "the wrong handler fails somewhere in the catalogue");
    for (one, other) in first.found.iter().zip(&second.found) {
        assert_eq!(one.schedule.to_string(), other.schedule.to_string());
    }
}

#[test]
fn another_seed_gives_another_digest() {
    assert_ne!(run("default", 1, 310).digest, run("default", 2, 310).digest);
}

#[test]
fn the_number_of_jobs_changes_nothing() {
    let campaign = |jobs, keep_going| {
        let campaign = Campaign {
            strategy: Strategy::Portfolio,
            jobs,
            keep_going,
            ..campaign("short-circuit", 9, 3_100)
        };
        let report = campaign.run(|_| true);
        let found: Vec<_> = report.found.iter().map(|one| one.schedule.to_string()).collect();
        (report.digest, report.total().schedules, found)
    };
    for keep_going in [true, false] {
        let one = campaign(1, keep_going);
        assert!(!one.2.is_empty(), "the wrong handler fails somewhere in the catalogue");
        assert_eq!(one, campaign(3, keep_going));
    }
}
