//! A run as a picture in text: a column per actor, a row per step, the userfaultfd's queues
//! at the right. Owns the drawing; asks the world what there is to see.

use core::fmt::Write as _;

use crate::world::{Subject, World};

/// Collects the rows of a run.
#[derive(Clone, Debug)]
pub struct Timeline {
    actors: Vec<String>,
    rows: Vec<Row>,
}

#[derive(Clone, Debug)]
struct Row {
    actor: usize,
    what: String,
    queues: String,
}

/// The widest a column gets before its text is broken.
const WIDEST: usize = 22;

impl Timeline {
    /// An empty picture of `world`.
    pub fn new<S: Subject>(world: &World<S>) -> Timeline {
        Timeline { actors: crate::explore::names(world), rows: Vec::new() }
    }

    /// Add a step, after it was done.
    pub fn step<S: Subject>(&mut self, world: &World<S>, actor: usize, what: &str) {
        // A thread that the handler has just started has a name now.
        self.actors = crate::explore::names(world);
        let ctx = world.kernel().ctx(world.ctx());
        let mut queues = String::new();
        let unread = ctx.faults_unread();
        let taken = ctx.faults_waiting() - unread;
        let parts = [("unread", unread), ("taken", taken), ("events", ctx.events_unread())];
        for (name, count) in parts.into_iter().filter(|(_, count)| *count > 0) {
            let _ = write!(queues, "{name} {count}  ");
        }
        if ctx.changing() > 0 {
            let _ = write!(queues, "changing {}", ctx.changing());
        }
        self.rows.push(Row { actor, what: what.to_owned(), queues: queues.trim_end().to_owned() });
    }

    /// The picture, `verdict` below it.
    pub fn render(&self, verdict: &str) -> String {
        // Only actors that move get a column.
        let moving: Vec<usize> = (0..self.actors.len())
            .filter(|actor| self.rows.iter().any(|row| row.actor == *actor))
            .collect();
        let widths: Vec<usize> = moving
            .iter()
            .map(|actor| {
                let longest = self
                    .rows
                    .iter()
                    .filter(|row| row.actor == *actor)
                    .map(|row| row.what.chars().count())
                    .max()
                    .unwrap_or(0);
                longest.min(WIDEST).max(self.actors[*actor].chars().count())
            })
            .collect();
        let number = self.rows.len().to_string().len().max(2);
        let mut out = String::new();
        let mut line = |number_text: &str, cells: &[String], tail: &str| {
            let mut text = format!("{number_text:>number$}");
            for (cell, width) in cells.iter().zip(&widths) {
                let _ = write!(text, " | {cell:<width$}");
            }
            let _ = write!(text, " | {tail}");
            out.push_str(text.trim_end());
            out.push('\n');
        };
        let heads: Vec<String> = moving.iter().map(|actor| self.actors[*actor].clone()).collect();
        line("", &heads, "userfaultfd");
        let rules: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
        line("--", &rules, "-----------");
        for (i, row) in self.rows.iter().enumerate() {
            let column = moving.iter().position(|actor| *actor == row.actor).unwrap_or(0);
            for (n, part) in wrap(&row.what, widths[column]).into_iter().enumerate() {
                let mut cells = vec![String::new(); moving.len()];
                cells[column] = part;
                if n == 0 {
                    line(&(i + 1).to_string(), &cells, &row.queues);
                } else {
                    line("", &cells, "");
                }
            }
        }
        if !verdict.is_empty() {
            let _ = write!(out, "\n{verdict}\n");
        }
        out
    }
}

/// `text` in lines of at most `width` characters, broken at spaces.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.last_mut().expect("there is a line");
        if !last.is_empty() && last.chars().count() + 1 + word.chars().count() > width {
            lines.push(format!("  {word}"));
        } else {
            if !last.is_empty() {
                last.push(' ');
            }
            last.push_str(word);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_broken_at_spaces_and_indented() {
        assert_eq!(
            wrap("queue fault, write of page 0", 14),
            ["queue fault,", "  write of", "  page 0"]
        );
        assert_eq!(wrap("short", 14), ["short"]);
    }
}
