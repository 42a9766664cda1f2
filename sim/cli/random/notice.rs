//! What a step shows of the rules that only a comparison tells: of what could be seen before it
//! and what can be seen after it, on both kernels alike. Owns those rules; those that a step of
//! the simulated kernel or an answer shows by itself are in `cover.rs`.

use core::ops::Range;

use shims::RegisterModes;

use super::cover::{Cover, Rule};
use super::possible::World;
use super::step::{Ask, Part, Step};
use super::view::View;
use crate::judge::{Advise, Area, Entry, Fill, Op, PAGE, Settled};

/// What was seen so far, as far as a rule may hang on it.
#[derive(Default)]
pub(super) struct Notice {
    before: Option<View>,
    /// The threads that sleep in a removal, each with the mappings of its range at the start.
    removals: Vec<(usize, Vec<Area>)>,
    /// The userfaultfds that have refused something while an event was on its way, and nothing
    /// but refused since.
    shut: Vec<usize>,
}

fn pages(at: u64, len: u64) -> Range<u64> {
    at / PAGE..at.saturating_add(len).div_ceil(PAGE)
}

fn meet(a: &Range<u64>, b: &Range<u64>) -> bool {
    a.start < b.end && b.start < a.end
}

/// The pages that a removal takes.
fn removed(op: Op) -> Option<Range<u64>> {
    match op {
        Op::DontNeed { at, len }
        | Op::DontNeedSelf { at, len }
        | Op::Advise { at, len, advice: Advise::Remove | Advise::DontNeedLocked } => {
            Some(pages(at, len))
        }
        _ => None,
    }
}

/// The pages that a call changes, if it may announce that.
fn announced(op: Op) -> Option<Range<u64>> {
    match op {
        Op::Unmap { at, len }
        | Op::Map { at, len, .. }
        | Op::Remap { at, len, .. }
        | Op::Advise { at, len, advice: Advise::Free } => Some(pages(at, len)),
        op => removed(op),
    }
}

/// The page that an access of one page is about.
fn touched(op: Op) -> Option<u64> {
    match op {
        Op::Touch { at, .. } | Op::UserCopy { at, .. } => Some(at / PAGE),
        _ => None,
    }
}

fn entry(view: &View, process: usize, page: u64) -> Entry {
    let pages = view.pages.get(process).map_or(&[][..], |pages| pages);
    pages.iter().find(|(n, _)| *n == page).map(|(_, entry)| *entry).unwrap_or_default()
}

fn areas(view: &View, process: usize, pages: &Range<u64>) -> Vec<Area> {
    let all = view.areas.get(process).map_or(&[][..], |areas| areas);
    all.iter().filter(|area| meet(&(area.start..area.end), pages)).cloned().collect()
}

fn is_protected(entry: Entry) -> bool {
    entry.wp && entry.content.is_some()
}

impl Notice {
    /// What `step` has shown. `view` is what both kernels show now, in whichever of `worlds`.
    pub(super) fn of(&mut self, step: &Step, view: View, worlds: &[World]) -> Cover {
        let mut cover = Cover::default();
        let told = |thread: usize| worlds[0].arm.told[thread].0;
        let homes = &worlds[0].homes;
        let sleeps = |view: &View, n: usize| view.threads.get(n) == Some(&Some(Settled::Asleep));
        let sleepers: Vec<_> = (0..view.threads.len())
            .filter(|&n| sleeps(&view, n))
            .filter_map(|n| told(n).map(|op| (n, op)))
            .collect();
        for &(thread, op) in &sleepers {
            let Some(range) = removed(op) else { continue };
            // d7: it is announced, and the pages are there still.
            if range.clone().any(|page| entry(&view, homes[thread], page).content.is_some()) {
                cover.add(Rule::d7);
            }
            if self.removals.iter().all(|(other, _)| *other != thread) {
                self.removals.push((thread, areas(&view, homes[thread], &range)));
            }
        }
        // d9: what was announced is not what is there at the end of the wait.
        self.removals.retain(|(thread, then)| {
            let asleep = sleeps(&view, *thread);
            let range = told(*thread).and_then(removed);
            if !asleep && range.is_some_and(|range| areas(&view, homes[*thread], &range) != *then) {
                cover.add(Rule::d9);
            }
            asleep
        });
        if let Some(before) = self.before.take() {
            match step {
                Step::Ask { uffd, ask } => {
                    let waiting = sleepers.iter().filter(|&&(n, _)| sleeps(&before, n)).copied();
                    self.gate(*uffd, *ask, &view, &sleepers, &mut cover);
                    asked(*ask, (&before, &view), waiting, homes, &mut cover);
                }
                Step::Thread { thread, op } if !sleeps(&view, *thread) => {
                    let home = homes[*thread];
                    let waiting = |page: &Range<u64>| {
                        let inside = |&(n, op): &(usize, Op)| {
                            homes[n] == home && touched(op).is_some_and(|at| page.contains(&at))
                        };
                        sleepers.iter().any(inside)
                    };
                    changed(*op, (&before, &view), home, waiting, &mut cover);
                }
                _ => {}
            }
            let protects = |pages: &Vec<(u64, Entry)>| pages.iter().any(|(_, e)| is_protected(*e));
            if view.areas.len() > before.areas.len() && before.pages.iter().any(protects) {
                cover.add(Rule::d26);
            }
        }
        self.before = Some(view);
        cover
    }

    /// d3: it is shut for pages that the event is not about. d4: it opens when the sender runs.
    fn gate(
        &mut self,
        uffd: usize,
        ask: Ask,
        view: &View,
        sleepers: &[(usize, Op)],
        cover: &mut Cover,
    ) {
        let (Ask::Copy(part, ..)
        | Ask::Zero(part, _)
        | Ask::Continue(part, _)
        | Ask::Poison(part, _)
        | Ask::Move(part, ..)) = ask
        else {
            return;
        };
        if view.answer.contains("EAGAIN), field: Error") {
            let mut ranges = sleepers.iter().filter_map(|&(_, op)| announced(op)).peekable();
            let some = ranges.peek().is_some();
            if some && ranges.all(|range| !meet(&range, &pages(part.at, part.len))) {
                cover.add(Rule::d3);
            }
            self.shut.push(uffd);
        } else if self.shut.contains(&uffd) {
            cover.add(Rule::d4);
            self.shut.retain(|other| *other != uffd);
        }
    }
}

/// What a request shows. `waiting` were asleep before it, and are.
fn asked(
    ask: Ask,
    (before, after): (&View, &View),
    mut waiting: impl Iterator<Item = (usize, Op)>,
    homes: &[usize],
    cover: &mut Cover,
) {
    let is_done = after.answer.contains("errno: None");
    let range = |part: Part| pages(part.at, part.len);
    let modes = |range: &Range<u64>| areas(before, 0, range).into_iter().map(|area| area.modes);
    let any = |range: Range<u64>, wanted: &dyn Fn(Entry, Entry) -> bool| {
        let mut range = range;
        range.any(|page| wanted(entry(before, 0, page), entry(after, 0, page)))
    };
    match ask {
        Ask::Register(part, wanted) if after.answer.contains("Ok") => {
            // Something is taken away by asking for something else.
            let wanted = RegisterModes::from_bits_retain(wanted);
            let replaced = |had: RegisterModes| !had.contains(wanted) && !wanted.contains(had);
            if modes(&range(part)).any(replaced) {
                cover.add(Rule::b7);
            }
        }
        Ask::Copy(part, mode, _) if is_done => {
            let unasked =
                |modes: RegisterModes| !modes.is_empty() && !modes.contains(RegisterModes::MISSING);
            if modes(&range(part)).any(unasked) {
                cover.add(Rule::e7);
            }
            let plain =
                |was: Entry, is: Entry| was.marker && was.wp && is.content.is_some() && !is.wp;
            if mode & 2 == 0 && any(range(part), &plain) {
                cover.add(Rule::e13);
            }
        }
        Ask::Protect(part, mode) if is_done && mode & 1 == 1 => {
            let watched =
                |page: u64| modes(&(page..page + 1)).any(|m| m.contains(RegisterModes::WP));
            if range(part).any(|page| watched(page) && entry(before, 0, page) == Entry::default()) {
                cover.add(Rule::f1);
            }
        }
        Ask::Move(part, from, _) => {
            let moved = range(part).zip(from / PAGE..).any(|(to, from)| {
                let gone = is_protected(entry(before, 0, from))
                    && entry(after, 0, from) == Entry::default();
                gone && entry(after, 0, to).content.is_some()
            });
            if moved {
                cover.add(Rule::e22);
            }
        }
        _ => {}
    }
    // e5: something was answered for a page that somebody waits for, and he waits still.
    if let Ask::Copy(part, ..) | Ask::Zero(part, _) | Ask::Continue(part, _) = ask {
        let range = range(part);
        let page = |(n, op): (usize, Op)| (homes[n] == 0).then(|| touched(op)).flatten();
        if waiting.any(|one| page(one).is_some_and(|page| range.contains(&page))) {
            cover.add(Rule::e5);
        }
    }
}

/// The pages that a call may bring by itself.
fn brought(op: Op) -> Option<Range<u64>> {
    match op {
        Op::Map { fill: Fill::Later, .. } => None,
        Op::Protect { at, len, .. } | Op::Map { at, len, .. } => Some(pages(at, len)),
        Op::Remap { at, len, new_len, to, .. } if new_len > len => {
            let to = to.unwrap_or(at);
            Some(pages(to + len, new_len - len))
        }
        _ => None,
    }
}

/// What a call of a thread of `home` shows that has come back at once.
fn changed(
    op: Op,
    (before, after): (&View, &View),
    home: usize,
    waiting: impl Fn(&Range<u64>) -> bool,
    cover: &mut Cover,
) {
    match op {
        Op::Protect { at, len, .. } => {
            let kept = |page| {
                is_protected(entry(before, home, page)) && is_protected(entry(after, home, page))
            };
            if areas(before, home, &pages(at, len)) != areas(after, home, &pages(at, len))
                && pages(at, len).any(kept)
            {
                cover.add(Rule::f4);
            }
        }
        Op::Remap { at, len, to: Some(to), .. } => {
            let watched = |area: Area| !area.modes.is_empty();
            let there = areas(after, home, &pages(to, len));
            if areas(before, home, &pages(at, len)).into_iter().any(watched)
                && areas(before, home, &pages(to, len)) != there
                && !there.is_empty()
                && !there.into_iter().any(watched)
            {
                cover.add(Rule::d19);
            }
        }
        _ => {}
    }
    let absent = |view, page| entry(view, home, page).content.is_none();
    let new = |page| absent(before, page) && !absent(after, page);
    if brought(op).is_some_and(|mut pages| pages.any(new)) {
        cover.add(Rule::c15);
    }
    let range = match op {
        Op::Protect { at, len, .. } => Some(pages(at, len)),
        op => announced(op),
    };
    if range.is_some_and(|range| waiting(&range)) {
        cover.add(Rule::c13);
    }
}
