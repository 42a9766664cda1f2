//! Schedules as runs: the steps that an actor takes in one go. Owns the edits that drop, join and
//! swap them.

use crate::schedule::Step;

/// The runs of a schedule, in order.
pub fn runs(steps: &[Step]) -> impl Iterator<Item = &[Step]> {
    steps.chunk_by(|one, next| one.actor == next.actor)
}

/// The schedules that are one edit away from this one.
pub(super) fn edits(steps: &[Step]) -> Vec<Vec<Step>> {
    let runs: Vec<&[Step]> = runs(steps).collect();
    let mut edits: Vec<Vec<&[Step]>> = Vec::new();
    // Drop a run.
    for i in 0..runs.len() {
        let mut edit = runs.clone();
        edit.remove(i);
        edits.push(edit);
    }
    // Join a run with another one of its actor, there or here.
    for i in 0..runs.len() {
        for j in i + 1..runs.len() {
            if runs[i][0].actor == runs[j][0].actor {
                let mut early = runs.clone();
                let run = early.remove(j);
                early.insert(i + 1, run);
                edits.push(early);
                let mut late = runs.clone();
                let run = late.remove(i);
                late.insert(j - 1, run);
                edits.push(late);
            }
        }
    }
    // Swap neighbours.
    for i in 1..runs.len() {
        let mut edit = runs.clone();
        edit.swap(i - 1, i);
        edits.push(edit);
    }
    // Drop the first or the last step of a run.
    for i in 0..runs.len() {
        if runs[i].len() > 1 {
            for part in [&runs[i][1..], &runs[i][..runs[i].len() - 1]] {
                let mut edit = runs.clone();
                edit[i] = part;
                edits.push(edit);
            }
        }
    }
    edits.into_iter().map(|edit| edit.concat()).collect()
}
