//! The line of a scenario's head that says what may go wrong, and how often. Owns its syntax.

use super::words::{ScenarioError, Words};
use crate::world::{Mishap, Mishaps};

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
