//! Which rules of `docs/kernel` a run has exercised: steps and answers, mapped to rule ids.
//! Owns the map and the count; the rules that a comparison of before and after tells are in
//! `notice.rs`, and what is done about rules that were missed is in `generate.rs`.
//!
//! A rule counts when what it says was compared: after a step whose outcome the kernels agree
//! on, in all states that the simulated kernel may be in then.

use std::fmt;

use shims::Event;
use sim::kernel::{Did, ProcessDid, Signal};

use super::step::{Ask, Part, Setup, Step};
use super::view::View;
use crate::judge::{Back, Op, PAGE, Settled};

macro_rules! rules {
    ($($name:ident)*) => {
        /// A rule, or a part of one that shows by itself.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[allow(non_camel_case_types, reason = "the rules' own names")]
        pub(super) enum Rule { $($name),* }
        const NAMES: &[&str] = &[$(stringify!($name)),*];
        const ALL: &[Rule] = &[$(Rule::$name),*];
    };
}

rules! {
    a11 a12 a13 a14 a18 a20 a23 a25 a28
    b1 b2 b6 b7 b12 b13
    c1 c2 c3 c4 c5 c7 c9 c11 c12 c13 c15
    d3 d4 d6 d7 d9 d11 d12 d14 d18 d19 d25 d26 d28 d34
    e1 e2 e3 e5 e6 e7 e10 e11 e12 e13 e14 e15 e16 e17 e18 e19 e20 e21 e22 e23
    f1 f2 f3 f4 f5
}

/// A set of rules.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Cover(u128);

const _: () = assert!(NAMES.len() <= 128);

impl Cover {
    pub(super) fn add(&mut self, rule: Rule) {
        self.0 |= 1 << rule as u32;
    }

    pub(super) fn join(&mut self, other: Cover) {
        self.0 |= other.0;
    }

    /// What a step of the kernel shows.
    pub(super) fn step(&mut self, did: &Did) {
        let rules: &[Rule] = match did {
            Did::Miss { .. } => &[Rule::c1],
            Did::MissMinor { .. } => &[Rule::c2],
            Did::Trap { .. } => &[Rule::c3],
            Did::QueueFault { .. } => &[Rule::c7],
            Did::QueueEvent { event: Event::Remove(_), .. } => &[Rule::d6],
            Did::QueueEvent { event: Event::Unmap(_), .. } => &[Rule::d14],
            Did::QueueEvent { event: Event::Remap { .. }, .. } => &[Rule::d18],
            Did::QueueEvent { event: Event::Fork { .. }, .. } => &[Rule::d25],
            Did::Take(Event::Fault(_)) => &[Rule::a13],
            Did::GiveUp { .. } => &[Rule::d11],
            Did::Drop { .. } => &[Rule::d12],
            Did::ZapMarker { .. } => &[Rule::f3],
            Did::WakeAll { woken: 1.. } => &[Rule::b13],
            Did::Install { .. } => &[Rule::e10],
            Did::Protect { .. } => &[Rule::e17],
            Did::Unprotect { .. } => &[Rule::e19],
            Did::Poison { .. } => &[Rule::e16],
            Did::Move { .. } | Did::MoveHole { .. } => &[Rule::e21],
            Did::FillProtected { .. } => &[Rule::f2],
            Did::LetGo { .. } => &[Rule::d34],
            Did::Release { .. } => &[Rule::a20],
            Did::Raise(Signal::SegvAccErr | Signal::SegvMapErr) => &[Rule::c4],
            Did::Raise(Signal::BusPoison) => &[Rule::c12],
            Did::Raise(Signal::BusAdrErr) => &[Rule::c5],
            Did::Answer { woken: 1.., .. } => &[Rule::c11],
            Did::Process(ProcessDid::Interrupt { .. }) => &[Rule::a25],
            Did::Process(ProcessDid::Withdraw { .. }) => &[Rule::a28],
            Did::Process(ProcessDid::TearDown) => &[Rule::a23],
            _ => &[],
        };
        for rule in rules {
            self.add(*rule);
        }
    }

    /// What an answer shows.
    pub(super) fn answer(&mut self, setup: &Setup, step: &Step, view: &View) {
        let says = |word: &str| view.answer.contains(word);
        if view.uffds.iter().flatten().any(|(_, _, poll)| poll & 8 != 0) {
            self.add(Rule::a18);
        }
        let ask = match step {
            Step::Ask { ask, .. } => *ask,
            Step::Thread { thread, op } => {
                let state = view.threads.get(*thread).copied().flatten();
                let by_kernel = matches!(
                    op,
                    Op::UserCopy { .. }
                        | Op::ProcMem { .. }
                        | Op::Remote { .. }
                        | Op::Populate { .. }
                        | Op::Lock { on_fault: false, .. }
                );
                let asked =
                    matches!(state, Some(Settled::Asleep | Settled::Returned(Back::Err(_))));
                if by_kernel && asked {
                    self.add(Rule::c9);
                }
                return;
            }
            _ => return,
        };
        let is_odd = |part: Part| part.len == 0 || !(part.len | part.at).is_multiple_of(PAGE);
        match ask {
            Ask::Read(_) => {
                let event = ["REMOVE", "UNMAP", "REMAP", "FORK"].iter().any(|word| says(word));
                if event && says("\"F") && !says("\"FORK\"]") {
                    self.add(Rule::a11);
                }
                if says("Ok(") && !says("Ok(1)") {
                    self.add(Rule::a12);
                }
                if says("EAGAIN") {
                    self.add(Rule::a14);
                }
                if says("FORK") {
                    self.add(Rule::d28);
                }
            }
            Ask::Register(..) if says("Ok") => self.add(Rule::b6),
            Ask::Register(..) => self.add(Rule::b2),
            Ask::Unregister(_) => self.add(Rule::b12),
            Ask::Wake(_) => self.add(Rule::e23),
            Ask::Copy(part, ..) | Ask::Zero(part, _) | Ask::Continue(part, _) => {
                if is_odd(part) && says("EINVAL") {
                    self.add(Rule::b1);
                }
                for (word, rule) in [
                    ("EINVAL), field: Untouched", Rule::e2),
                    ("EAGAIN), field: Error", Rule::e1),
                    ("EAGAIN), field: Bytes", Rule::e3),
                    ("ENOENT", Rule::e6),
                ] {
                    if says(word) {
                        self.add(rule);
                    }
                }
                self.add(match ask {
                    Ask::Zero(..) => Rule::e14,
                    Ask::Continue(..) => Rule::e15,
                    _ if setup.is_huge() => Rule::e12,
                    _ if says("EFAULT") => Rule::e11,
                    _ => Rule::e10,
                });
            }
            Ask::Protect(..) if says("ENOENT") => self.add(Rule::e18),
            Ask::Move(..) if says("EINVAL") => self.add(Rule::e20),
            Ask::Poison(..) => self.add(Rule::e16),
            Ask::Scan(..) if says("Ok([(") => self.add(Rule::f5),
            Ask::Protect(..) | Ask::Move(..) | Ask::NonBlocking(_) | Ask::Scan(..) => {}
        }
    }

    /// What both have.
    pub(super) fn meet(self, other: Cover) -> Cover {
        Cover(self.0 & other.0)
    }

    fn has(self, rule: Rule) -> bool {
        self.0 >> rule as u32 & 1 == 1
    }
}

/// How many steps have exercised each rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Counts(Vec<u64>);

impl Default for Counts {
    fn default() -> Counts {
        Counts(vec![0; ALL.len()])
    }
}

impl Counts {
    /// One more step, which has exercised those.
    pub(super) fn add(&mut self, step: Cover) {
        for rule in ALL {
            self.0[*rule as usize] += u64::from(step.has(*rule));
        }
    }

    pub(super) fn join(&mut self, other: &Counts) {
        for (count, more) in self.0.iter_mut().zip(&other.0) {
            *count += more;
        }
    }

    /// The rules that were not seen.
    pub(super) fn missing(&self) -> impl Iterator<Item = Rule> {
        ALL.iter().filter(|rule| self.0[**rule as usize] == 0).copied()
    }
}

impl Rule {
    pub(super) fn name(self) -> &'static str {
        NAMES[self as usize]
    }

    /// The rule of that name.
    pub(super) fn of(name: &str) -> Option<Rule> {
        ALL.iter().find(|rule| rule.name() == name).copied()
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let missing: Vec<_> = self.missing().map(Rule::name).collect();
        write!(f, "{} of {} rules", NAMES.len() - missing.len(), NAMES.len())?;
        if !missing.is_empty() {
            write!(f, ", not {}", missing.join(" "))?;
        }
        let seen = NAMES.iter().zip(&self.0).filter(|(_, count)| **count > 0);
        let seen: Vec<_> = seen.map(|(name, count)| format!("{name} {count}")).collect();
        write!(f, "\nsteps that exercised each: {}", seen.join(", "))
    }
}
