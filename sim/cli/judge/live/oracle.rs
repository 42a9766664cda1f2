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
        let present = self.memory[page as usize].is_some();
        let claim = match self.snapshot[page as usize] {
            Some(states::AMBIGUOUS) => return None,
            None | Some(states::REMOVED) => false,
            Some(_) => true,
        };
        // A removal that failed was announced, and has removed nothing.
        if claim == present || self.deeds.iter().any(failed) {
            return None;
        }
        let word = |yes: bool| if yes { "there" } else { "not there" };
        let what = format!(
            "a snapshot says that page {page} is {}, and it is {}",
            word(claim),
            word(present)
        );
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
