//! Which rules of `docs/kernel` a run has exercised: steps and answers, mapped to rule ids.
//! Owns the map and the count; what is done about rules that were missed is in `generate.rs`.

use std::fmt;

use shims::Event;
use sim::kernel::{Did, HugeDid, ProcessDid, Ret, Signal};

macro_rules! rules {
    ($($name:ident)*) => {
        /// A rule, or a part of one that shows by itself.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[allow(non_camel_case_types, reason = "the rules' own names")]
        pub(super) enum Rule { $($name),* }
        const NAMES: &[&str] = &[$(stringify!($name)),*];
    };
}

rules! {
    a11 a12 a13 a14 a18 a20 a23 a25 a28
    b1 b2 b3 b5 b6 b7 b12 b13
    c1 c2 c3 c4 c5 c7 c9 c10 c11 c12
    d3 d4 d6 d7 d9 d11 d12 d14 d18 d21 d23 d25 d34
    e1 e2 e3 e5 e6 e7 e10 e11 e12 e14 e15 e16 e17 e18 e19 e20 e21 e23
    f1 f2 f3 f5 f6
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
            Did::SkipSleep { .. } => &[Rule::c10],
            Did::RaiseChanging { .. } => &[Rule::d3],
            Did::LowerChanging { .. } => &[Rule::d4],
            Did::QueueEvent { event: Event::Remove(_), .. } => &[Rule::d6],
            Did::QueueEvent { event: Event::Unmap(_), .. } => &[Rule::d14],
            Did::QueueEvent { event: Event::Remap { .. }, .. } => &[Rule::d18],
            Did::QueueEvent { event: Event::Fork { .. }, .. } => &[Rule::d25],
            Did::Take(Event::Fault(_)) => &[Rule::a13],
            Did::Zap { .. } | Did::Huge { what: HugeDid::Zap, .. } => &[Rule::d7],
            Did::GiveUp { .. } => &[Rule::d11],
            Did::Drop { .. } => &[Rule::d12],
            Did::ZapMarker { .. } => &[Rule::f3],
            Did::NextMapping => &[Rule::d9],
            Did::WakeAll { woken: 1.. } => &[Rule::b13],
            Did::Install { .. } => &[Rule::e10],
            Did::Protect { .. } => &[Rule::e17],
            Did::Unprotect { .. } => &[Rule::e19],
            Did::Poison { .. } => &[Rule::e16],
            Did::Move { .. } | Did::MoveHole { .. } => &[Rule::e21],
            Did::Scan { .. } => &[Rule::f5],
            Did::FillProtected { .. } => &[Rule::f2],
            Did::LetGo { .. } => &[Rule::d34],
            Did::Huge { what: HugeDid::Collapse, .. } => &[Rule::f6],
            Did::Release { .. } => &[Rule::a20],
            Did::Raise(Signal::SegvAccErr | Signal::SegvMapErr) => &[Rule::c4],
            Did::Raise(Signal::BusPoison) => &[Rule::c12],
            Did::Raise(Signal::BusAdrErr) => &[Rule::c5],
            Did::Answer { woken: 1.., .. } => &[Rule::e5, Rule::c11],
            Did::Process(ProcessDid::Interrupt { .. }) => &[Rule::a25],
            Did::Process(ProcessDid::Withdraw { .. }) => &[Rule::a28],
            Did::Process(ProcessDid::TearDown) => &[Rule::a23],
            Did::Return(Ret::Read(2..)) => &[Rule::a12],
            _ => &[],
        };
        for rule in rules {
            self.add(*rule);
        }
    }

    pub(super) fn missing(self) -> impl Iterator<Item = &'static str> {
        (0..).zip(NAMES).filter(move |(n, _)| self.0 >> n & 1 == 0).map(|(_, name)| *name)
    }
}

impl fmt::Display for Cover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let missing: Vec<_> = self.missing().collect();
        write!(f, "{} of {} rules", NAMES.len() - missing.len(), NAMES.len())?;
        if !missing.is_empty() {
            write!(f, ", not {}", missing.join(" "))?;
        }
        Ok(())
    }
}
