//! What a reduction promises step by step: those that it moves come out the same before and behind
//! whatever the others do meanwhile, and two steps that it takes to have nothing to do with each
//! other lead to one state in either order. Owns these two comparisons.
//!
//! The first look of an ioctl at the gate and the second are one step here, as they are for a
//! reduced search; that they can be is compared by what the runs come to (`graph.rs`).

use super::graph::{Graph, Node, actors};

/// Two steps that do not commute, in a state that a run gets to without one of those who are moved.
pub struct Clash {
    /// Where the reduced search moves only some.
    pub at: usize,
    /// Where the two can move.
    pub behind: usize,
    pub moved: usize,
    pub other: usize,
}

impl Graph {
    /// The state that the next step of `actor` leads to, the second look at the gate with the
    /// first.
    fn step(&self, at: usize, actor: usize) -> Option<usize> {
        let next = |at: usize| {
            let next = &self.nodes[at].next;
            next.iter().find(|(other, _)| *other == actor).map(|(_, next)| *next)
        };
        let behind = next(at)?;
        if self.nodes[behind].goes_on >> actor & 1 == 1 { next(behind) } else { Some(behind) }
    }

    /// Do the steps of both lead to the same, in either order?
    fn commute(&self, at: usize, one: usize, other: usize) -> bool {
        let (Some(first), Some(second)) = (self.step(at, one), self.step(at, other)) else {
            return false;
        };
        let timed = one == self.clock || other == self.clock;
        let ended = |node: &Node| node.enabled == 0;
        let there = match (self.step(first, other), self.step(second, one)) {
            (Some(there), Some(here)) => return self.nodes[there].bare == self.nodes[here].bare,
            // How often time may hurry is counted, and is not what this is about.
            (None, None) => return timed,
            (Some(there), None) if ended(&self.nodes[second]) => (there, second),
            (None, Some(here)) if ended(&self.nodes[first]) => (here, first),
            _ => return timed,
        };
        // A run that is over needs no step more: with that step it fails in the same way, though
        // perhaps in other words.
        self.class(there.0) == self.class(there.1)
    }

    /// What a run that is over here has come to, as far as failures are told apart.
    fn class(&self, at: usize) -> &str {
        let end = self.ends.get(self.nodes[at].end.trailing_zeros() as usize);
        end.map_or("", String::as_str).split_once(' ').map_or("", |(class, _)| class)
    }

    /// A step that a reduced search moves instead of others, though it does not come out the same
    /// behind what they can do.
    pub fn tear(&self) -> Option<Clash> {
        let stable = |node: &Node| node.goes_on == 0;
        let some = |node: &&Node| stable(node) && node.held != node.enabled;
        let mut sets: Vec<_> =
            self.nodes.iter().filter(some).map(|node| (node.needed, node.held)).collect();
        sets.sort_unstable();
        sets.dedup();
        sets.into_iter().find_map(|(set, held)| self.tear_of(set, held))
    }

    fn tear_of(&self, set: u64, held: u64) -> Option<Clash> {
        // Where the first of the steps of `set` can be lost, and by whom.
        let mut lost: Vec<Option<(usize, usize, usize)>> = self
            .nodes
            .iter()
            .enumerate()
            .map(|(at, node)| {
                let others = actors(node.enabled & !held).filter(|other| *other != self.clock);
                let mut pairs = others
                    .flat_map(|other| actors(node.enabled & set).map(move |moved| (moved, other)));
                let clash = pairs.find(|(moved, other)| !self.commute(at, *moved, *other));
                clash.map(|(moved, other)| (at, moved, other))
            })
            .collect();
        loop {
            let mut changed = false;
            for &at in &self.order {
                if lost[at].is_some() {
                    continue;
                }
                let mut others = actors(self.nodes[at].enabled & !held);
                lost[at] = others.find_map(|other| lost[self.step(at, other)?]);
                changed |= lost[at].is_some();
            }
            if !changed {
                break;
            }
        }
        let torn = |at: &usize| {
            let node = &self.nodes[*at];
            node.goes_on == 0 && (node.needed, node.held) == (set, held) && lost[*at].is_some()
        };
        let at = *self.order.iter().find(|at| torn(at))?;
        let (behind, moved, other) = lost[at]?;
        Some(Clash { at, behind, moved, other })
    }

    /// Two steps that a reduced search takes to come out the same in either order, and do not.
    pub fn touch(&self) -> Option<Clash> {
        let stable = self.nodes.iter().enumerate().filter(|(_, node)| node.goes_on == 0);
        stable.into_iter().find_map(|(at, node)| {
            // Each is moved here: where both fail, both failures are seen.
            let fails = |actor| self.step(at, actor).is_some_and(|at| self.nodes[at].enabled == 0);
            let apart = |one, other| (fails(one) && fails(other)) || self.commute(at, one, other);
            let mut pairs = node.apart.iter();
            let (moved, other) = *pairs.find(|(one, other)| !apart(*one, *other))?;
            Some(Clash { at, behind: at, moved, other })
        })
    }
}
