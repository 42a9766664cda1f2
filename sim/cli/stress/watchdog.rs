//! Who waits for too long. Owns the question; what follows is the command's business.

use std::time::Duration;

use super::traffic::{Doing, Seat};

/// A thread that waits.
#[derive(Clone, Copy, Debug)]
pub struct Waiting<'a> {
    /// The thread.
    pub seat: &'a Seat,
    /// What it began and has not ended.
    pub doing: Doing,
    /// How long ago it began.
    pub waited: Duration,
}

/// The threads that have waited for longer than `patience` at the moment `now`, longest
/// first.
pub fn stuck(seats: &[Seat], now: Duration, patience: Duration) -> Vec<Waiting<'_>> {
    let waiting = seats.iter().filter_map(|seat| {
        let doing = seat.doing()?;
        Some(Waiting { seat, doing, waited: now.saturating_sub(doing.since) })
    });
    let mut stuck: Vec<_> = waiting.filter(|waiting| waiting.waited > patience).collect();
    stuck.sort_by_key(|waiting| std::cmp::Reverse(waiting.waited));
    stuck
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stress::traffic::Act;

    #[test]
    fn only_who_waits_for_too_long_is_named_and_the_longest_first() {
        let seat = |name: &str, since: Option<u64>| {
            let seat = Seat::new(name.into());
            let since = since.map(Duration::from_secs);
            seat.set(since.map(|since| Doing { act: Act::Load, page: 7, count: 1, since, tid: 1 }));
            seat
        };
        let seats = [
            seat("idle", None),
            seat("new", Some(18)),
            seat("old", Some(12)),
            seat("oldest", Some(9)),
        ];
        let second = Duration::from_secs(1);
        let names: Vec<_> = stuck(&seats, 20 * second, 5 * second)
            .iter()
            .map(|waiting| (waiting.seat.name.as_str(), waiting.waited.as_secs()))
            .collect();
        assert_eq!(names, [("oldest", 11), ("old", 8)]);
        assert!(stuck(&seats, second, 5 * second).is_empty(), "a clock that lags hurts nobody");
    }
}
