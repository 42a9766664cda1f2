//! How long the runs of a system are, and who takes how many steps of them: what the
//! strategies that spread their choices over a whole run need to know beforehand.

use super::{Chooser, RandomWalk, System};
use crate::world::{MAX_ACTORS, STEP_LIMIT};

/// Random walks that are taken to measure.
const WALKS: u64 = 64;

/// Steps after which no further walk is begun: a system of which every walk is a livelock has been
/// measured by a few.
const ENOUGH: u64 = 50_000;

/// The measure of a system.
#[derive(Clone, Debug)]
pub struct Gauge {
    /// Actors there are.
    pub actors: usize,
    /// Steps of the longest walk that was seen.
    pub length: u32,
    /// Steps of each actor: the mean over the walks, rounded up.
    pub moves: [u32; MAX_ACTORS],
}

impl Gauge {
    /// Measure the system that begins at `start` by random walks from `seed`.
    pub fn measure<S: System>(start: &S, seed: u64) -> Gauge {
        let mut gauge = Gauge { actors: start.actors(), length: 1, moves: [0; MAX_ACTORS] };
        let mut sums = [0u64; MAX_ACTORS];
        let mut walks = 0;
        let mut system = start.clone();
        for index in 0..WALKS {
            // Numbers that no walk of a campaign has.
            let mut walk = RandomWalk::new(seed, u64::MAX - index);
            system.clone_from(start);
            let mut length = 0;
            while length < STEP_LIMIT {
                let enabled = system.enabled();
                if enabled == 0 {
                    break;
                }
                let actor = walk.choose(enabled);
                sums[actor] += 1;
                length += 1;
                system.go(actor);
            }
            gauge.length = gauge.length.max(length);
            walks += 1;
            if sums.iter().sum::<u64>() >= ENOUGH {
                break;
            }
        }
        for (mean, sum) in gauge.moves.iter_mut().zip(sums) {
            *mean = sum.div_ceil(walks) as u32;
        }
        gauge
    }
}
