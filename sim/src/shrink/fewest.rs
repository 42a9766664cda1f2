//! The order of a world's steps that fails in the fewest runs: a breadth-first search over the
//! number of times that another actor takes over. Owns the search; it is exact as long as it is
//! allowed enough states.
//!
//! Musuvathi, Qadeer: "Iterative Context Bounding for Systematic Testing of Multithreaded
//! Programs", PLDI 2007: most failures need few preemptions, and those that need fewest are the
//! ones a person understands.

use super::Case;
use crate::explore::{Fingerprint, Seen, Visit, bits};
use crate::world::{Subject, World};

/// What the search came to.
pub(super) enum Found<T = Case> {
    /// There is no better order.
    None,
    /// Not everything could be searched.
    Unknown,
    /// This is better, and nothing is better still.
    Better(T),
}

impl<T> Found<T> {
    pub(super) fn map<U>(self, with: impl FnOnce(T) -> U) -> Found<U> {
        match self {
            Found::None => Found::None,
            Found::Unknown => Found::Unknown,
            Found::Better(found) => Found::Better(with(found)),
        }
    }
}

/// A state with the way to it.
struct Node<S> {
    world: World<S>,
    /// Who took over last, and is in its run.
    actor: usize,
    /// The place of the step that led here.
    way: u32,
    steps: usize,
}

/// Look for a failure of class `class` that is smaller than `size` (runs, steps), among at most
/// `limit` states.
pub(super) fn search<S: Subject>(
    start: &World<S>,
    class: &str,
    size: (usize, usize),
    limit: usize,
) -> Found<Vec<usize>> {
    // Each step with the one before it; the first entry stands for the start.
    let mut ways: Vec<(u32, u8)> = vec![(0, 0)];
    // When each state was passed first; and the states with whose run they are in.
    let (mut passed, mut going) = (Seen::default(), Seen::default());
    let mut level: Vec<Node<S>> = Vec::new();
    let step = |ways: &mut Vec<(u32, u8)>, from: &World<S>, way: u32, actor: usize, steps| {
        let mut world = from.clone();
        world.apply(actor);
        ways.push((way, actor as u8));
        Node { world, actor, way: ways.len() as u32 - 1, steps: steps + 1 }
    };
    for actor in bits(start.enabled()) {
        level.push(step(&mut ways, start, 0, actor, 0));
    }
    // Runs of the nodes of this level.
    for runs in 1..=size.0 {
        let mut best: Option<(usize, u32)> = None;
        let mut next = Vec::new();
        // Those with the fewest steps first: what they pass, the others need not.
        level.sort_by_key(|node| node.steps);
        for mut node in level {
            loop {
                // In one state with one actor in its run there is one way to go on. In a state
                // that an earlier level has passed there is nothing new at all: the others
                // could take over there as well.
                if passed.first(Fingerprint::of(&node.world), runs as u64) < runs as u64 {
                    break;
                }
                let both = Fingerprint::of(&(&node.world, node.actor));
                if going.visit(both, 0) != Visit::First {
                    break;
                }
                if going.len() > limit {
                    return Found::Unknown;
                }
                let enabled = node.world.enabled();
                if enabled == 0 {
                    node.world.finish();
                    let failed = node.world.failure().map(crate::world::Failure::class);
                    if failed == Some(class)
                        && (runs, node.steps) < size
                        && best.is_none_or(|(steps, _)| node.steps < steps)
                    {
                        best = Some((node.steps, node.way));
                    }
                    break;
                }
                for other in bits(enabled & !(1 << node.actor)) {
                    next.push(step(&mut ways, &node.world, node.way, other, node.steps));
                }
                if enabled >> node.actor & 1 == 0 {
                    break;
                }
                node.world.apply(node.actor);
                ways.push((node.way, node.actor as u8));
                node.way = ways.len() as u32 - 1;
                node.steps += 1;
            }
        }
        if let Some((_, way)) = best {
            return Found::Better(path(&ways, way));
        }
        level = next;
    }
    Found::None
}

fn path(ways: &[(u32, u8)], mut way: u32) -> Vec<usize> {
    let mut path = Vec::new();
    while way != 0 {
        let (before, actor) = ways[way as usize];
        path.push(usize::from(actor));
        way = before;
    }
    path.reverse();
    path
}
