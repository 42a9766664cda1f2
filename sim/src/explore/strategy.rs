//! The strategies by name, and which of them a walk of a campaign uses. Owns the portfolio.

use core::fmt;
use core::str::FromStr;

use super::pct::MAX_DEPTH;
use super::{Chooser, Gauge, Pct, RandomWalk, Swarm, UniformWalk};

/// A way to choose, for the walks of a campaign.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Strategy {
    /// [`RandomWalk`].
    Random,
    /// [`Pct`] with this depth.
    Pct(u32),
    /// [`UniformWalk`].
    Uniform,
    /// [`Swarm`].
    Swarm,
    /// All of them in turn: no strategy is best for every bug.
    Portfolio,
}

/// The chooser of one walk, whatever its strategy.
#[derive(Clone, Debug)]
pub enum Walk {
    /// A random walk.
    Random(RandomWalk),
    /// A PCT run.
    Pct(Pct),
    /// A uniform walk.
    Uniform(UniformWalk),
    /// A swarm walk.
    Swarm(Swarm),
}

/// What walk number `n` of a portfolio is, by `n` modulo the length.
const PORTFOLIO: [Strategy; 8] = [
    Strategy::Random,
    Strategy::Pct(2),
    Strategy::Uniform,
    Strategy::Swarm,
    Strategy::Random,
    Strategy::Pct(3),
    Strategy::Uniform,
    Strategy::Pct(5),
];

impl Strategy {
    /// The names that [`from_str`](Strategy::from_str) knows.
    pub const NAMES: &'static [&'static str] =
        &["random", "pct", "pct:DEPTH", "uniform", "swarm", "portfolio"];

    /// The chooser of walk number `index` of the campaign with seed `seed`.
    pub fn walk(self, seed: u64, index: u64, gauge: &Gauge) -> Walk {
        match self {
            Strategy::Random => Walk::Random(RandomWalk::new(seed, index)),
            Strategy::Pct(depth) => Walk::Pct(Pct::new(seed, index, depth, gauge)),
            Strategy::Uniform => Walk::Uniform(UniformWalk::new(seed, index, gauge)),
            Strategy::Swarm => Walk::Swarm(Swarm::new(seed, index, gauge)),
            Strategy::Portfolio => {
                PORTFOLIO[(index % PORTFOLIO.len() as u64) as usize].walk(seed, index, gauge)
            }
        }
    }
}

impl Chooser for Walk {
    #[inline]
    fn choose(&mut self, enabled: u64) -> usize {
        match self {
            Walk::Random(walk) => walk.choose(enabled),
            walk => walk.choose_otherwise(enabled),
        }
    }
}

impl Walk {
    /// Apart, so that the random walk is part of the loop that takes its steps.
    #[inline(never)]
    fn choose_otherwise(&mut self, enabled: u64) -> usize {
        match self {
            Walk::Random(walk) => walk.choose(enabled),
            Walk::Pct(walk) => walk.choose(enabled),
            Walk::Uniform(walk) => walk.choose(enabled),
            Walk::Swarm(walk) => walk.choose(enabled),
        }
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Strategy::Random => f.write_str("random"),
            Strategy::Pct(depth) => write!(f, "pct:{depth}"),
            Strategy::Uniform => f.write_str("uniform"),
            Strategy::Swarm => f.write_str("swarm"),
            Strategy::Portfolio => f.write_str("portfolio"),
        }
    }
}

impl FromStr for Strategy {
    type Err = String;

    fn from_str(name: &str) -> Result<Strategy, String> {
        let unknown =
            || format!("there is no strategy `{name}`; there are: {}", Strategy::NAMES.join(", "));
        match name {
            "random" => Ok(Strategy::Random),
            "pct" => Ok(Strategy::Pct(3)),
            "uniform" => Ok(Strategy::Uniform),
            "swarm" => Ok(Strategy::Swarm),
            "portfolio" => Ok(Strategy::Portfolio),
            _ => {
                let depth = name.strip_prefix("pct:").ok_or_else(unknown)?;
                match depth.parse() {
                    Ok(depth) if (1..=MAX_DEPTH).contains(&depth) => Ok(Strategy::Pct(depth)),
                    _ => Err(format!("expected a depth from 1 to {MAX_DEPTH}, found `{depth}`")),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strategy_prints_as_what_it_is_read_from() {
        for text in ["random", "pct:1", "pct:64", "uniform", "swarm", "portfolio"] {
            assert_eq!(text.parse::<Strategy>().unwrap().to_string(), text);
        }
        assert_eq!("pct".parse(), Ok(Strategy::Pct(3)));
        for text in ["", "PCT", "pct:", "pct:0", "pct:65", "pct:x", "dfs"] {
            assert!(text.parse::<Strategy>().is_err(), "{text}");
        }
    }
}
