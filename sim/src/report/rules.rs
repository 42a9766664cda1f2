//! Which rule of `docs/kernel` is behind a step, and what it says in a sentence.

use shims::{Errno, Event};

use crate::kernel::{Did, Ret};
use crate::world::Move;

/// A rule of the kernel.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Rule {
    /// Its id: a step of the model (`F2`, `E4`) or a rule (`d8`).
    pub id: &'static str,
    /// The file of `docs/kernel` it stands in.
    pub file: &'static str,
    /// What it says.
    pub says: &'static str,
}

macro_rules! rules {
    ($($name:ident $id:literal $file:literal $says:literal)*) => {
        $(const $name: &Rule = &Rule { id: $id, file: $file, says: $says };)*
        /// All of them.
        #[cfg(test)]
        const ALL: &[&Rule] = &[$($name),*];
    };
}

rules! {
    F1 "F1" "README" "Under the page table lock: what is there, and does a userfaultfd want to know?"
    F2 "F2" "README" "The message is queued and readers see it. Nobody has looked at the page since the first look."
    F3 "F3" "README" "A last look, without a lock: the reason is gone, so the thread does not sleep."
    F4 "F4" "README" "The thread sleeps until somebody wakes it."
    E1 "E1" "README" "The count of changes goes up: from now on every resolving ioctl says EAGAIN."
    E2 "E2" "README" "The event is queued; its sender sleeps until it is read, and no longer."
    E3 "E3" "README" "A read takes the event. The sender can run, whatever the handler still has to do."
    E4 "E4" "README" "The sender lowers the count. Resolving ioctls succeed again, and the pages are still there."
    E5 "E5" "README" "Only now do the pages go, and with them whatever was installed since the event was read."
    A11 "a11" "lifecycle" "A read hands out faults first, then events."
    A13 "a13" "lifecycle" "Reading a fault is not resolving it: its thread sleeps on."
    A20 "a20" "lifecycle" "Release: no fault queues any more, and everybody who waits is woken."
    B13 "b13" "registration" "UNREGISTER wakes the faulters of its range before it clears the registration."
    C10 "c10" "faults" "A page is replaced: for a moment whoever looks without a lock finds nothing there, and sleeps."
    C12 "c12" "faults" "A poisoned page raises SIGBUS."
    D3 "d3" "events" "While the count of changes is above zero, every resolving ioctl says EAGAIN."
    D9 "d9" "events" "The lock is taken again and the mapping looked up again."
    E1R "e1" "resolving" "The gate is tested before the arguments, and once more with the locks held."
    E5R "e5" "resolving" "Whoever waits for the pages that were done is woken."
    E10 "e10" "resolving" "A page is put where there is none; where there is one the ioctl says EEXIST and wakes nobody."
    E17 "e17" "resolving" "WRITEPROTECT changes the protection of what is there."
    E23 "e23" "resolving" "WAKE wakes whoever waits in the range, whatever for."
}

/// The rule behind a step of the kernel.
pub(super) fn behind(did: &Move) -> Option<&'static Rule> {
    let Move::Kernel(did) = did else { return None };
    Some(match did {
        Did::Miss { .. } | Did::Trap { .. } => F1,
        Did::QueueFault { .. } => F2,
        Did::Replace { .. } => C10,
        Did::SkipSleep { .. } => F3,
        Did::Sleep { .. } => F4,
        Did::RaiseChanging { .. } => E1,
        Did::QueueEvent { .. } => E2,
        Did::Take(Event::Fault(_)) => A13,
        Did::Take(_) => E3,
        Did::LowerChanging { .. } => E4,
        Did::Zap { .. } | Did::ZapMarker { .. } => E5,
        Did::PassGate => E1R,
        Did::NextMapping => D9,
        Did::WakeAll { .. } => B13,
        Did::Install { .. } => E10,
        Did::Protect { .. } | Did::Unprotect { .. } => E17,
        Did::Release { .. } => A20,
        Did::Raise(crate::kernel::Signal::BusPoison) => C12,
        Did::Answer { outcome, woken } => match outcome.errno {
            Some(Errno::EAGAIN) => D3,
            Some(Errno::EEXIST) => E10,
            None if outcome.bytes_done() == 0 && *woken > 0 => E23,
            None => E5R,
            Some(_) => return None,
        },
        Did::Return(Ret::Err(Errno::EAGAIN) | Ret::Read(_)) => A11,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_stands_where_it_is_said_to() {
        for rule in ALL {
            let path = format!("{}/../docs/kernel/{}.md", env!("CARGO_MANIFEST_DIR"), rule.file);
            let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
            let anchors = [format!("id=\"{}\"", rule.id), format!("id=\"step-{}\"", rule.id)];
            assert!(anchors.iter().any(|anchor| text.contains(anchor)), "{} in {path}", rule.id);
        }
    }
}
