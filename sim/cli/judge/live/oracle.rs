//! What is wrong with a run of which it is known what everybody did and what the memory holds, but
//! not in which order the kernel took it: whatever is objected to is wrong in every order.
//!
//! Owns the judgement. What a scenario does without an announcement, and where it moves memory,
//! makes some questions undecidable; they are not asked.

use handler::states;
use sim::Content;
use sim::kernel::{Madvise, Ret};
use sim::world::{Check, ContentClass, Memory, Op, Setup};

use super::score::Deed;
use super::{Objection, ret_text};

/// Everything that is known of a run that has come to its end.
pub(super) struct Evidence<'r> {
    pub(super) setup: &'r Setup,
    pub(super) deeds: &'r [Deed],
    /// By place: what is mapped in the watched process.
    pub(super) memory: &'r [Option<Content>],
    /// The same behind the snapshot, which fills what it finds absent with zeros.
    pub(super) settled: &'r [Option<Content>],
    /// By page of the source: the handler's record, by name.
    pub(super) records: &'r [&'static str],
    /// A snapshot, taken after the rest: by page of the source, the state that it names.
    pub(super) snapshot: &'r [Option<u8>],
    /// Has the handler given up?
    pub(super) failed: bool,
}

impl Evidence<'_> {
    pub(super) fn objections(&self) -> Vec<Objection> {
        let mut all = Vec::new();
        for deed in self.deeds {
            all.extend(self.expectation(deed));
            all.extend(self.loaded(deed));
        }
        for (place, content) in self.memory.iter().enumerate() {
            if let Some(content) = content {
                let found = self.explained(place as u64, *content, None);
                all.extend(found.map(|(class, what)| Objection::new(class, what)));
            }
        }
        for page in 0..self.setup.pages {
            all.extend(self.agreement(page));
            all.extend(self.unseen(page));
        }
        let unmet = |line: u32, check: &Check| {
            let got = self.violates(check)?;
            Some(Objection::new("finally", format!("line {line}: `{check}`, but {got}")))
        };
        all.extend(self.setup.finally.iter().filter_map(|f| unmet(f.line, &f.check)));
        all
    }

    fn op(&self, deed: &Deed) -> &Op {
        &self.setup.programs[deed.task].ops[deed.op]
    }

    fn name(&self, deed: &Deed) -> String {
        let program = &self.setup.programs[deed.task];
        let line = program.lines[deed.op];
        format!("{}, line {line}: `{}`", program.name, self.setup.operation(self.op(deed)))
    }

    fn expectation(&self, deed: &Deed) -> Option<Objection> {
        let expect = self.op(deed).expect()?;
        let (_, ret) = deed.end.as_ref()?;
        let wrong = || format!("{} came to {}", self.name(deed), ret_text(ret));
        (!expect.holds(*ret)).then(|| Objection::new("expectation", wrong()))
    }

    fn loaded(&self, deed: &Deed) -> Option<Objection> {
        let Op::Read { page, .. } = self.op(deed) else { return None };
        let (_, Ret::Loaded(content)) = deed.end.as_ref()? else { return None };
        let (class, what) = self.explained(*page, *content, Some(deed))?;
        Some(Objection::new(class, format!("{}: {what}", self.name(deed))))
    }

    /// Does memory move in this scenario?
    fn moves(&self) -> bool {
        self.ops().any(|op| matches!(op, Op::Mremap { .. }))
    }

    fn ops(&self) -> impl Iterator<Item = &Op> {
        self.setup.programs.iter().flat_map(|program| &program.ops)
    }

    /// What is wrong with `content` at a place, found by a load, or by the look at the end.
    fn explained(
        &self,
        place: u64,
        content: Content,
        load: Option<&Deed>,
    ) -> Option<(&'static str, String)> {
        let setup = self.setup;
        let watched = load.is_none_or(|load| {
            let program = &setup.programs[load.task];
            !program.forked && !program.beside
        });
        match content {
            Content::Bytes(_) => Some(("misplaced", format!("page {place} holds {content}"))),
            Content::Source { page, .. } if u64::from(page) >= setup.pages => {
                Some(("misplaced", format!("page {place} holds {content}, which there is not")))
            }
            _ if self.moves() => None,
            Content::Source { page, .. } if u64::from(page) != place => {
                Some(("misplaced", format!("page {place} holds {content}")))
            }
            Content::Source { .. } if watched => {
                let removed = self.deeds.iter().find(|removal| {
                    let over = matches!(removal.end, Some((end, Ret::Ok(_)))
                        if load.is_none_or(|load| end < load.begin));
                    over && self.is_own(removal) && self.takes_for_good(removal, place)
                })?;
                let what = format!("page {place} holds {content} behind {}", self.name(removed));
                Some(("stale", what))
            }
            Content::Zero if watched && !self.comes_by_itself() => {
                let end = load.and_then(|load| load.end).map_or(u64::MAX, |(end, _)| end);
                let may = self.deeds.iter().any(|d| d.begin < end && self.may_zero(d, place));
                (!may).then(|| ("lost", format!("page {place} holds zeros, and nobody removed it")))
            }
            _ => None,
        }
    }

    /// Is it done by the watched process?
    fn is_own(&self, deed: &Deed) -> bool {
        let program = &self.setup.programs[deed.task];
        !program.forked && !program.beside
    }

    /// Are there pages of which the handler is not asked?
    fn comes_by_itself(&self) -> bool {
        let beside = self.setup.programs.iter().any(|program| program.beside);
        beside || !self.setup.modes.contains(shims::RegisterModes::MISSING)
    }

    /// Does it cover the page, and is it gone for good when that has returned?
    fn takes_for_good(&self, deed: &Deed, page: u64) -> bool {
        let gone = matches!(self.setup.memory, Memory::Anon | Memory::HugetlbPrivate);
        match self.op(deed) {
            Op::DontNeed { range, .. } => gone && self.covers(*range, page),
            Op::Remove { range, .. } => self.covers(*range, page),
            _ => false,
        }
    }

    /// May the page be zeros once it has begun?
    fn may_zero(&self, deed: &Deed, page: u64) -> bool {
        match self.op(deed) {
            Op::DontNeed { .. } | Op::Remove { .. } => self.takes_for_good(deed, page),
            Op::Advise { range, advice, .. } => {
                matches!(advice, Madvise::Free | Madvise::GuardInstall | Madvise::PageOut)
                    && self.covers(*range, page)
            }
            Op::Punch { range, .. } | Op::Unregister { range, .. } => self.covers(*range, page),
            Op::Truncate { .. } => true,
            _ => false,
        }
    }

    fn covers(&self, range: shims::Span, page: u64) -> bool {
        let addr = self.setup.addr(page);
        range.start <= addr && range.end().is_none_or(|end| addr < end)
    }

    /// Does the handler hear of all that becomes of pages, and can it be checked by what is
    /// mapped?
    fn is_told_of_everything(&self) -> bool {
        let own = matches!(self.setup.memory, Memory::Anon | Memory::HugetlbPrivate);
        let silent = |op: &Op| {
            matches!(
                op,
                Op::Mremap { .. }
                    | Op::Munmap { .. }
                    | Op::Register { .. }
                    | Op::Unregister { .. }
                    | Op::Punch { .. }
                    | Op::Truncate { .. }
                    | Op::Advise { .. }
            )
        };
        own && self.setup.features.contains(shims::Features::EVENT_REMOVE)
            && !self.ops().any(silent)
    }

    fn agreement(&self, page: u64) -> Option<Objection> {
        if !self.is_told_of_everything() || self.failed {
            return None;
        }
        let failed = |deed: &Deed| {
            matches!(self.op(deed), Op::DontNeed { .. })
                && matches!(deed.end, None | Some((_, Ret::Err(_))))
        };
        let present = self.settled[page as usize].is_some();
        let (claim, name) = match self.snapshot[page as usize] {
            Some(states::AMBIGUOUS) => return None,
            None => (false, "missing"),
            Some(state) => (state != states::REMOVED, states::name(state)),
        };
        // A removal that failed was announced, and has removed nothing.
        if claim == present || self.deeds.iter().any(failed) {
            return None;
        }
        let word = if present { "there" } else { "not there" };
        let what = format!("a snapshot says that page {page} is {name}, and it is {word}");
        Some(Objection::new("disagreement", what))
    }

    /// A page that was written, and that nobody has given up or begun anew, must be dirty.
    fn unseen(&self, page: u64) -> Option<Objection> {
        let anew = |op: &Op| matches!(op, Op::Control(sim::world::Control::Baseline));
        if !self.setup.tracks_writes() || self.moves() || self.failed || self.ops().any(anew) {
            return None;
        }
        let wrote = |deed: &&Deed| {
            matches!(self.op(deed), Op::Write { page: at, .. } if *at == page)
                && matches!(deed.end, Some((_, Ret::Stored)))
                && self.is_own(deed)
        };
        let writer = self.deeds.iter().find(wrote)?;
        let removed = self.ops().any(|op| {
            let range = match op {
                Op::DontNeed { range, .. }
                | Op::Remove { range, .. }
                | Op::Advise { range, .. }
                | Op::Punch { range, .. }
                | Op::Munmap { range, .. }
                | Op::Unregister { range, .. } => *range,
                Op::Truncate { .. } => return true,
                _ => return false,
            };
            self.covers(range, page)
        });
        let seen = self.snapshot[page as usize] == Some(states::DIRTY);
        let what = || format!("a snapshot does not say so of page {page}: {}", self.name(writer));
        (!removed && !seen).then(|| Objection::new("unseen-write", what()))
    }

    /// What is the case instead, if `check` does not hold.
    fn violates(&self, check: &Check) -> Option<String> {
        match check {
            Check::Holds(page, class) => match self.memory[*page as usize] {
                None => Some(format!("page {page} is absent")),
                Some(content) => {
                    let index = match content {
                        Content::Source { page, .. } if self.moves() => u64::from(page),
                        _ => *page,
                    };
                    let holds = ContentClass::of(content, index) == Some(*class);
                    (!holds).then(|| format!("page {page} holds {content}"))
                }
            },
            Check::Absent(page) => {
                let content = self.memory[*page as usize]?;
                Some(format!("page {page} holds {content}"))
            }
            Check::State(page, name) => {
                let got = self.records[*page as usize];
                (got != name).then(|| format!("the handler holds page {page} for {got}"))
            }
            Check::HandlerFailed => (!self.failed).then(|| "the handler has not".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use shims::Errno;
    use sim::kernel::Signal;

    use super::*;

    const SOURCE: Content = Content::Source { page: 0, version: 0 };
    const OTHER: Content = Content::Source { page: 1, version: 0 };
    const WRITTEN: Content = Content::Written { task: 0, seq: 1 };

    /// What is objected to a run of two pages in which the tasks `lines` did `deeds`: task,
    /// operation, when it began and ended, and what came of it.
    fn classes(
        lines: &str,
        deeds: &[(usize, usize, u64, u64, Ret)],
        memory: [Option<Content>; 2],
        snapshot: [Option<u8>; 2],
    ) -> Vec<&'static str> {
        settled_classes(lines, deeds, [memory, memory], snapshot)
    }

    /// The same where the memory was another before the snapshot than behind it.
    fn settled_classes(
        lines: &str,
        deeds: &[(usize, usize, u64, u64, Ret)],
        [memory, settled]: [[Option<Content>; 2]; 2],
        snapshot: [Option<u8>; 2],
    ) -> Vec<&'static str> {
        let text = format!("faultbed scenario 1\nname x\n{lines}");
        let setup = sim::scenario::parse("x", &text).expect("a scenario");
        let deeds: Vec<_> = deeds
            .iter()
            .map(|&(task, op, begin, end, ret)| Deed { task, op, begin, end: Some((end, ret)) })
            .collect();
        let evidence = Evidence {
            setup: &setup,
            deeds: &deeds,
            memory: &memory,
            settled: &settled,
            records: &["clean", "missing"],
            snapshot: &snapshot,
            failed: false,
        };
        evidence.objections().into_iter().map(|objection| objection.class).collect()
    }

    const READ: &str = "memory 2 pages\ntask a\n  read 0\ntask b\n  dontneed 0 -> ok\n";
    const CLEAN: [Option<u8>; 2] = [Some(states::CLEAN), None];

    fn loaded(content: Content, at: (u64, u64), removal: (u64, u64)) -> Vec<&'static str> {
        let deeds =
            [(0, 0, at.0, at.1, Ret::Loaded(content)), (1, 0, removal.0, removal.1, Ret::Ok(0))];
        classes(READ, &deeds, [None, None], [Some(states::REMOVED), None])
    }

    #[test]
    fn a_load_is_held_against_what_was_over_and_what_had_begun() {
        assert_eq!(loaded(SOURCE, (1, 2), (3, 4)), [""; 0]);
        assert_eq!(loaded(SOURCE, (1, 4), (2, 3)), [""; 0], "it may have come before");
        assert_eq!(loaded(SOURCE, (3, 4), (1, 2)), ["stale"]);
        assert_eq!(loaded(Content::Zero, (3, 4), (1, 2)), [""; 0]);
        assert_eq!(loaded(Content::Zero, (1, 4), (2, 3)), [""; 0], "it may have come behind");
        assert_eq!(loaded(Content::Zero, (1, 2), (3, 4)), ["lost"]);
        assert_eq!(loaded(OTHER, (1, 2), (3, 4)), ["misplaced"]);
        assert_eq!(loaded(Content::Bytes(7), (1, 2), (3, 4)), ["misplaced"]);
    }

    #[test]
    fn memory_that_moves_or_that_others_fill_is_not_asked_about_order() {
        let moved = "memory 2 pages\nroom 2\nfeatures remap\ntask a\n  read 0\n  mremap 0..1 2\n";
        let deeds = [(0, 0, 1, 2, Ret::Loaded(OTHER)), (0, 1, 3, 4, Ret::Ok(0))];
        assert_eq!(classes(moved, &deeds, [None, None], [None; 2]), [""; 0]);
        let beside = "memory 2 pages shmem\ntask f beside\n  read 0\ntask a\n  read 0\n";
        let deeds = [(1, 0, 1, 2, Ret::Loaded(Content::Zero))];
        assert_eq!(classes(beside, &deeds, [None, None], [None; 2]), [""; 0]);
    }

    #[test]
    fn the_end_is_held_against_expectations_records_and_conditions() {
        let deeds = [(0, 0, 1, 2, Ret::Loaded(SOURCE))];
        let one = "memory 2 pages\ntask a\n  read 0 -> source\n";
        assert_eq!(classes(one, &deeds, [Some(SOURCE), None], CLEAN), [""; 0]);
        assert_eq!(classes(one, &deeds, [None, None], CLEAN), ["disagreement"]);
        assert_eq!(classes(one, &deeds, [Some(SOURCE), None], [None; 2]), ["disagreement"]);
        // Asking fills what is not there; that is in what the snapshot says.
        let (zero, filled) = ([Some(states::ZERO), None], [Some(Content::Zero), None]);
        let deed = [(0, 0, 1, 2, Ret::Loaded(SOURCE)), (1, 0, 3, 4, Ret::Ok(0))];
        let absent = [None, None];
        assert_eq!(settled_classes(READ, &deed, [absent, filled], zero), [""; 0]);
        assert_eq!(settled_classes(READ, &deed, [absent, absent], zero), ["disagreement"]);
        let unsure = [Some(states::AMBIGUOUS), None];
        assert_eq!(classes(one, &deeds, [None, None], unsure), [""; 0]);
        let segv = [(0, 0, 1, 2, Ret::Signal(Signal::SegvMapErr))];
        assert_eq!(classes(one, &segv, [Some(SOURCE), None], CLEAN), ["expectation"]);
        for condition in ["page 0 written", "page 0 absent", "page 1 zero", "state 0 dirty"] {
            let text = format!("{one}finally\n  {condition}\n");
            assert_eq!(classes(&text, &deeds, [Some(SOURCE), None], CLEAN), ["finally"]);
        }
        let good = format!("{one}finally\n  page 0 source\n  page 1 absent\n  state 0 clean\n");
        assert_eq!(classes(&good, &deeds, [Some(SOURCE), None], CLEAN), [""; 0]);
    }

    #[test]
    fn a_write_must_be_known_unless_the_page_was_given_up() {
        let watched = "memory 2 pages missing wp\ntask a\n  write 0 -> ok\n";
        let deeds = [(0, 0, 1, 2, Ret::Stored)];
        let memory = [Some(WRITTEN), None];
        assert_eq!(classes(watched, &deeds, memory, CLEAN), ["unseen-write"]);
        assert_eq!(classes(watched, &deeds, memory, [Some(states::DIRTY), None]), [""; 0]);
        let given_up = format!("{watched}  dontneed 0\n");
        assert_eq!(classes(&given_up, &deeds, memory, CLEAN), [""; 0]);
        let anew = format!("{watched}  baseline\n");
        assert_eq!(classes(&anew, &deeds, memory, CLEAN), [""; 0]);
    }

    #[test]
    fn a_removal_that_failed_promises_nothing() {
        let deeds = [(0, 0, 1, 2, Ret::Err(Errno::ENOMEM))];
        let one = "memory 2 pages\ntask a\n  dontneed 0..2\n";
        let removed = [Some(states::REMOVED), None];
        assert_eq!(classes(one, &deeds, [Some(SOURCE), None], removed), [""; 0]);
    }
}
