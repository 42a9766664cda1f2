//! The few steps of a story that matter: where the kernel and the handler part for good, how the
//! wrong bytes came, and what whoever is stuck did last. Owns their choice and the sentences.

use std::collections::BTreeMap;

use super::{Holds, Page, Story};
use crate::world::Failure;

/// What a handler calls a page that it has installed.
const INSTALLED: [&str; 3] = ["clean", "dirty", "zero"];

/// A step worth looking at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Turn {
    /// Its number, from 1.
    pub step: usize,
    /// Who made it.
    pub actor: String,
    /// What it was.
    pub what: String,
    /// What is to be seen there, in a sentence.
    pub says: String,
}

impl Story {
    /// The steps to look at first, in order.
    pub fn turns(&self) -> Vec<Turn> {
        let mut turns: BTreeMap<usize, Vec<String>> = BTreeMap::new();
        let mut say = |at: Option<usize>, says: String| {
            if let Some(at) = at {
                turns.entry(at).or_default().push(says);
            }
        };
        for page in 0..self.before.len() {
            let at = self.parted(page);
            if let Some(Page { state, .. }) = at.map(|at| &self.scenes[at].pages[page]) {
                let has = self.words_at(at, page);
                say(at, format!("from here on the kernel has {has}, and the handler says {state}"));
                let wiped = at.and_then(|zap| self.wiped_by(zap, page));
                let zap = at.map_or(0, |at| at + 1);
                say(wiped, format!("the removal was read, its zap is still to come (step {zap})"));
                self.given_up(page as u64, wiped, &mut say);
            }
        }
        match &self.outcome.failure {
            Some(
                Failure::Stale { page, .. }
                | Failure::Lost { page }
                | Failure::Misplaced { page, .. },
            ) => {
                let came = self.last_change(*page as usize);
                self.removal(*page, came, &mut say);
                say(came, self.how_it_came(came, *page as usize));
                let read = format!("read page {page}: ");
                let read =
                    self.last(|_, what| what.starts_with(&read)).filter(|at| Some(*at) > came);
                say(read, "the process finds them".to_owned());
            }
            Some(Failure::Hang(stuck)) => {
                for one in stuck.iter().filter(|one| one.sleep.is_some()) {
                    let last = self.last(|actor, _| actor == one.task);
                    say(last, format!("the last step of {}, which is never woken", one.task));
                    let took = self.last(|_, what| what.starts_with("took MISSING"));
                    let took = took.filter(|took| last.is_some_and(|last| *took > last));
                    let there = one.handler.filter(|state| INSTALLED.contains(state));
                    let why = there.map(|state| format!(": it takes the page for {state}"));
                    let why = why.unwrap_or_default();
                    say(took, format!("the handler knows of it, and does nothing{why}"));
                }
            }
            _ => {}
        }
        for at in 0..self.scenes.len() {
            if self.actors[self.scenes[at].actor].name.starts_with("mishap-") {
                say(Some(at), "a mishap, which a handler has to live with".to_owned());
            }
        }
        let turn = |(at, says): (usize, Vec<String>)| {
            let scene = &self.scenes[at];
            let actor = self.actors[scene.actor].name.clone();
            Turn { step: at + 1, actor, what: scene.what.clone(), says: says.join("; ") }
        };
        turns.into_iter().map(turn).collect()
    }

    /// How `page` was given up, and where the bytes were on their way that came at step `came`.
    fn removal(&self, page: u64, came: Option<usize>, say: &mut impl FnMut(Option<usize>, String)) {
        let Some(came) = came else { return };
        let by = self.scenes[came].actor;
        let fetch = format!("fetch page {page}");
        let fetched = (0..came)
            .rev()
            .find(|at| self.scenes[*at].actor == by && self.scenes[*at].what == fetch);
        say(fetched, "it brings the bytes of the source".to_owned());
        let told =
            (0..self.scenes.len()).rev().find(|at| took_remove(&self.scenes[*at].what, page));
        say(
            told,
            "the handler is told that the page goes, which lets the removal go on".to_owned(),
        );
        self.given_up(page, told, say);
        let zap = format!("zap page {page}");
        let zapped = self.last(|_, what| what.starts_with(&zap));
        let sender = self.scenes.iter().rfind(|scene| scene.what.starts_with("queue REMOVE"));
        let over = zapped.or_else(|| {
            let sender = sender?.actor;
            (told?..self.scenes.len()).find(|at| {
                self.scenes[*at].actor == sender && self.scenes[*at].what.starts_with("return ok")
            })
        });
        say(over, "from here on nobody may see the bytes that were there".to_owned());
    }

    /// Where the removal begins of which the handler knows at step `told`.
    fn given_up(
        &self,
        page: u64,
        told: Option<usize>,
        say: &mut impl FnMut(Option<usize>, String),
    ) {
        let queued = told.and_then(|told| {
            (0..told).rev().find(|at| names(&self.scenes[*at].what, "queue REMOVE ", page))
        });
        say(
            queued,
            format!("the process gives page {page} up, and sleeps until the handler has read that"),
        );
    }

    /// The install that the zap at `zap` has wiped, if the removal had been read before it.
    fn wiped_by(&self, zap: usize, page: usize) -> Option<usize> {
        if !self.scenes[zap].what.starts_with("zap page") {
            return None;
        }
        let install =
            (0..zap).rev().find(|at| self.at(at + 1, page).words != self.at(*at, page).words)?;
        let told = (0..install).any(|at| took_remove(&self.scenes[at].what, page as u64));
        (told && self.scenes[install].what.starts_with("install page")).then_some(install)
    }

    /// The last step of which this is true: who, and what.
    fn last(&self, holds: impl Fn(&str, &str) -> bool) -> Option<usize> {
        self.scenes.iter().rposition(|scene| holds(&self.actors[scene.actor].name, &scene.what))
    }

    fn at(&self, scene: usize, page: usize) -> &Page {
        match scene.checked_sub(1) {
            None => &self.before[page],
            Some(scene) => &self.scenes[scene].pages[page],
        }
    }

    /// The step since which the handler's record of a page is wrong, if it is in the end.
    fn parted(&self, page: usize) -> Option<usize> {
        let first = (0..=self.scenes.len())
            .rev()
            .take_while(|scene| self.at(*scene, page).contradicts())
            .last()?;
        first.checked_sub(1)
    }

    /// The last step that changed what the kernel has there.
    fn last_change(&self, page: usize) -> Option<usize> {
        (0..self.scenes.len())
            .rev()
            .find(|scene| self.at(scene + 1, page).words != self.at(*scene, page).words)
    }

    /// How what should not be there came into a page, or went.
    fn how_it_came(&self, scene: Option<usize>, page: usize) -> String {
        match scene.map(|scene| &self.scenes[scene].pages[page]) {
            Some(at) if at.holds != Holds::Absent => {
                format!("this is how {} came into page {page}", at.words)
            }
            _ => format!("this is how page {page} went"),
        }
    }

    fn words_at(&self, scene: Option<usize>, page: usize) -> String {
        let Some(at) = scene.map(|scene| &self.scenes[scene].pages[page]) else {
            return format!("page {page}");
        };
        match at.holds {
            Holds::Absent => format!("no page {page}"),
            _ => format!("{} in page {page}", at.words),
        }
    }
}

/// Is this the reading of a `REMOVE` of `page`?
fn took_remove(what: &str, page: u64) -> bool {
    names(what, "took REMOVE ", page)
}

/// Does a step that begins with `words` name a range with `page` in it?
fn names(what: &str, words: &str, page: u64) -> bool {
    let span = what.strip_prefix(words).and_then(|span| span.split_once(".."));
    span.is_some_and(|(start, end)| {
        let end = end.split(',').next().unwrap_or(end);
        start.parse().is_ok_and(|start: u64| start <= page)
            && end.parse().is_ok_and(|end: u64| page < end)
    })
}

impl Page {
    /// Does the handler say that it is there, or that it is not, and the kernel knows better?
    fn contradicts(&self) -> bool {
        let there = matches!(self.holds, Holds::Zero | Holds::Source | Holds::Written);
        match self.state {
            state if INSTALLED.contains(&state) => !there,
            "missing" | "removed" => there,
            _ => false,
        }
    }
}
