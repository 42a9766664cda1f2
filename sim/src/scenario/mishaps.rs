//! The lines of a scenario's head that say what may go wrong, and how often, and how much of a
//! handler is too much. Owns their syntax.

use super::words::{ScenarioError, Words};
use crate::world::{Mishap, Mishaps, Patience};

/// The most often that a mishap may strike.
const OFTEN: u64 = 9;

/// `NAME [N] NAME [N] ...`: at least one.
pub(super) fn mishaps(words: &mut Words<'_>) -> Result<Mishaps, ScenarioError> {
    let mut allowed = Mishaps::default();
    let (mut name, mut column) = words.want("the name of a mishap")?;
    loop {
        let Some(mishap) = Mishap::ALL.iter().copied().find(|mishap| mishap.word() == name) else {
            let known: Vec<&str> = Mishap::ALL.iter().map(|mishap| mishap.word()).collect();
            let message = format!("expected one of {}, found `{name}`", known.join(", "));
            return Err(words.error(column, message));
        };
        if allowed.times(mishap) > 0 {
            return Err(words.error(column, format!("`{name}` was given already")));
        }
        let counted = words.clone().next().is_some_and(|(word, _)| word.parse::<u64>().is_ok());
        // Whoever is asked to stop, or dies, does so once.
        let most = if matches!(mishap, Mishap::Shutdown | Mishap::Death) { 1 } else { OFTEN };
        let times = if counted { words.number("how often it may happen", 1, most)? } else { 1 };
        allowed.allow(mishap, times as u8);
        match words.next() {
            None => return Ok(allowed),
            Some(next) => (name, column) = next,
        }
    }
}

/// The most that a scenario can put up with.
const MOST: u64 = 10_000;

/// `busy N starved N`, or one of them.
pub(super) fn patience(words: &mut Words<'_>) -> Result<Patience, ScenarioError> {
    let mut patience = Patience::default();
    let (mut given, mut word) = (Vec::new(), Some(words.want("`busy` or `starved`")?));
    while let Some((name, column)) = word {
        if given.contains(&name) {
            return Err(words.error(column, format!("`{name}` was given already")));
        }
        let limit = match name {
            "busy" => &mut patience.busy,
            "starved" => &mut patience.starved,
            _ => {
                let message = format!("expected `busy` or `starved`, found `{name}`");
                return Err(words.error(column, message));
            }
        };
        *limit = words.number("how often", 1, MOST)? as u32;
        given.push(name);
        word = words.next();
    }
    Ok(patience)
}
