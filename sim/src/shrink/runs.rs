//! Smaller schedules: the runs of steps that actors take in one go, and what can be done with them.
//! Owns the edits; which of them are kept is `mod.rs`. An edit is a value of two words, and the
//! schedule is put together only when it is tried: a livelock has thousands of runs.

use crate::schedule::Step;

/// The runs of a schedule, in order.
pub fn runs(steps: &[Step]) -> impl Iterator<Item = &[Step]> {
    steps.chunk_by(|one, next| one.actor == next.actor)
}

/// Runs above which pairs of them are not looked at: there are too many.
const FEW: usize = 96;

/// Something to do with the runs of a schedule.
#[derive(Clone, Copy, Debug)]
enum Edit {
    /// Keep so many, and drop those behind them.
    Cut(usize),
    /// Drop so many from this one on.
    Drop(usize, usize),
    /// Join the second with the first, there.
    Early(usize, usize),
    /// Join the first with the second, there.
    Late(usize, usize),
    /// Swap it with its neighbour.
    Swap(usize),
    /// Drop its first step.
    First(usize),
    /// Drop its last step.
    Last(usize),
}

/// The schedules that are one edit away from this one, those that leave out most first.
pub(super) fn edits(steps: &[Step]) -> impl Iterator<Item = Vec<Step>> {
    let runs: Vec<&[Step]> = runs(steps).collect();
    let all = all(&runs);
    all.into_iter().map(move |edit| edit.apply(&runs))
}

fn all(runs: &[&[Step]]) -> Vec<Edit> {
    let mut edits = Vec::new();
    // Whoever moved last goes on as long as it can: what is cut off often was of no use.
    edits.extend((0..).map(|n| 1 << n).take_while(|n| *n < runs.len()).map(Edit::Cut));
    // Many at once, then fewer, then one.
    let mut many = runs.len() / 2;
    while many > 1 {
        edits.extend((0..runs.len()).step_by(many).map(|at| Edit::Drop(at, many)));
        many /= 2;
    }
    edits.extend((0..runs.len()).map(|at| Edit::Drop(at, 1)));
    if runs.len() > FEW {
        return edits;
    }
    for i in 0..runs.len() {
        for j in i + 1..runs.len() {
            if runs[i][0].actor == runs[j][0].actor {
                edits.extend([Edit::Early(i, j), Edit::Late(i, j)]);
            }
        }
    }
    edits.extend((1..runs.len()).map(Edit::Swap));
    for i in (0..runs.len()).filter(|i| runs[*i].len() > 1) {
        edits.extend([Edit::First(i), Edit::Last(i)]);
    }
    edits
}

impl Edit {
    fn apply(self, runs: &[&[Step]]) -> Vec<Step> {
        let mut runs = runs.to_vec();
        match self {
            Edit::Cut(count) => runs.truncate(count),
            Edit::Drop(at, count) => {
                runs.drain(at..(at + count).min(runs.len()));
            }
            Edit::Early(to, from) => {
                let run = runs.remove(from);
                runs.insert(to + 1, run);
            }
            Edit::Late(from, to) => {
                let run = runs.remove(from);
                runs.insert(to - 1, run);
            }
            Edit::Swap(at) => runs.swap(at - 1, at),
            Edit::First(at) => runs[at] = &runs[at][1..],
            Edit::Last(at) => runs[at] = &runs[at][..runs[at].len() - 1],
        }
        runs.concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(actors: &str) -> Vec<Step> {
        let step = |actor: char| Step { actor: actor.to_string(), what: String::new() };
        actors.chars().map(step).collect()
    }

    #[test]
    fn every_kind_of_edit_is_tried() {
        let words = |steps: Vec<Step>| steps.into_iter().map(|step| step.actor).collect::<String>();
        let edits: Vec<String> = edits(&schedule("aabac")).map(words).collect();
        for (edit, what) in [
            ("aa", "cut"),
            ("aab", "cut, or the last two dropped"),
            ("bac", "the first run dropped"),
            ("aaabc", "two joined early"),
            ("baaac", "two joined late"),
            ("baaac", "swapped"),
            ("abac", "a step dropped"),
        ] {
            assert!(edits.iter().any(|made| made == edit), "{what}: {edit} of {edits:?}");
        }
        assert!(edits.iter().all(|made| made.len() <= 5 && made != "aabac"), "{edits:?}");
    }

    #[test]
    fn a_long_schedule_has_few_edits() {
        let long = schedule(&"ab".repeat(2_000));
        let count = edits(&long).take(20_000).count();
        // Once through for each size of what is dropped: as many again as there are runs, twice.
        assert!((4_000..13_000).contains(&count), "{count}");
    }
}
