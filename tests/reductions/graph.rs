//! All states of a small world, and what the runs from each of them can come to: with all steps,
//! and with those alone that a reduced search takes. Owns the graph and the comparison.

use std::collections::BTreeMap;

use sim::explore::{Exhaust, Exhaustible, Fingerprint};
use sim::kernel::Did;
use sim::world::{Move, Order, Subject, World};

/// Ends of runs, a bit each.
type Ends = u128;

struct Node {
    /// What the state is for a reduced search, and who takes whose place in it.
    print: Fingerprint,
    order: Order,
    /// Actors that can move.
    enabled: u64,
    /// Those that a reduced search moves.
    needed: u64,
    next: Vec<(usize, usize)>,
    /// Threads that are between the two looks of an ioctl at the gate, which a reduced search
    /// takes to be one step.
    between: u64,
    /// From where, and by whose step, it was reached first.
    from: Option<(usize, usize)>,
    end: Ends,
}

/// The states of a world.
pub struct Graph {
    nodes: Vec<Node>,
    /// What the runs come to, in words.
    pub ends: Vec<String>,
    /// Each state behind all that follow it, but for circles.
    order: Vec<usize>,
    /// By state: what the runs from there can come to.
    all: Vec<Ends>,
}

/// What a comparison has seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sums {
    /// Worlds that were small enough.
    pub worlds: usize,
    /// Worlds that were not.
    pub skipped: usize,
    pub states: usize,
    /// States in which a reduced search moves some of those who can move.
    pub reduced: usize,
    /// States that are another one for a reduced search.
    pub merged: usize,
    /// Runs that fail, of different ends.
    pub failing: usize,
}

impl Graph {
    /// All states that follow `start`; `None` if there are more than `limit`.
    pub fn of<S: Subject>(start: &World<S>, hurries: u32, limit: usize) -> Option<Graph> {
        let mut graph =
            Graph { nodes: Vec::new(), ends: Vec::new(), order: Vec::new(), all: Vec::new() };
        let mut known = BTreeMap::new();
        let mut ends = BTreeMap::new();
        let mut open = vec![(start.clone(), 0, None, 0)];
        while let Some((world, hurried, from, between)) = open.pop() {
            let key = (Fingerprint::of(&world), hurried);
            let here = *known.entry(key).or_insert_with(|| {
                let node = graph.look(&world, hurried, hurries, from, between, &mut ends);
                graph.nodes.push(node);
                for actor in actors(graph.nodes[graph.nodes.len() - 1].enabled) {
                    let clock = Exhaustible::clock(&world) == Some(actor);
                    let hurry = clock && graph.nodes[graph.nodes.len() - 1].enabled != 1 << actor;
                    let mut next = world.clone();
                    let passes = matches!(next.apply(actor), Move::Kernel(Did::PassGate));
                    let between = between & !(1 << actor) | u64::from(passes) << actor;
                    let from = Some((graph.nodes.len() - 1, actor));
                    open.push((next, hurried + u32::from(hurry), from, between));
                }
                graph.nodes.len() - 1
            });
            if let Some((before, actor)) = from {
                graph.nodes[before].next.push((actor, here));
            }
            if graph.nodes.len() > limit {
                return None;
            }
        }
        graph.sort();
        graph.all = graph.reach(|_, _| true);
        Some(graph)
    }

    fn look<S: Subject>(
        &mut self,
        world: &World<S>,
        hurried: u32,
        hurries: u32,
        from: Option<(usize, usize)>,
        between: u64,
        ends: &mut BTreeMap<String, usize>,
    ) -> Node {
        let clock = 1 << world.clock_actor();
        let mut enabled = world.enabled();
        if hurried >= hurries && enabled != clock {
            enabled &= !clock;
        }
        let (print, order) = Exhaustible::arranged(world);
        let print = Fingerprint::of(&(print, hurried));
        let mut end = 0;
        if enabled == 0 {
            let what = world.clone().outcome();
            let words = format!("{:?} {}", what.class, anonymous(world, &what.what));
            let count = ends.len();
            let bit = *ends.entry(words.clone()).or_insert(count);
            if bit == count {
                self.ends.push(words);
            }
            end = 1 << bit;
        }
        let needed = Exhaust::needed(world, enabled);
        Node { print, order, enabled, needed, next: Vec::new(), between, from, end }
    }

    fn sort(&mut self) {
        let mut entered = vec![false; self.nodes.len()];
        let mut stack = vec![(0, 0)];
        entered[0] = true;
        while let Some((node, at)) = stack.pop() {
            match self.nodes[node].next.get(at) {
                None => self.order.push(node),
                Some((_, next)) => {
                    stack.push((node, at + 1));
                    if !std::mem::replace(&mut entered[*next], true) {
                        stack.push((*next, 0));
                    }
                }
            }
        }
    }

    /// What the runs from each state can come to, if only steps are taken that `takes` says.
    fn reach(&self, takes: impl Fn(&Node, usize) -> bool) -> Vec<Ends> {
        let mut reach: Vec<Ends> = self.nodes.iter().map(|node| node.end).collect();
        loop {
            let mut changed = false;
            for &at in &self.order {
                let node = &self.nodes[at];
                let next = node.next.iter().filter(|(actor, _)| takes(node, *actor));
                let all = next.fold(reach[at], |all, (_, next)| all | reach[*next]);
                changed |= all != reach[at];
                reach[at] = all;
            }
            if !changed {
                return reach;
            }
        }
    }

    /// A state from which the steps that a reduced search takes lead to fewer ends, with those
    /// that it misses.
    pub fn loss(&self) -> Option<(usize, Vec<&str>)> {
        let all = &self.all;
        let some = self.reach(|node, actor| node.needed >> actor & 1 == 1);
        // The last of them: what is wrong is wrong there.
        let lost = |at: &usize| self.nodes[*at].between == 0 && all[*at] != some[*at];
        let at = *self.order.iter().find(|at| lost(at))?;
        let missing = (0..self.ends.len()).filter(|end| (all[at] & !some[at]) >> end & 1 == 1);
        Some((at, missing.map(|end| self.ends[end].as_str()).collect()))
    }

    /// Two states that are one for a reduced search, and do not do the same from there on.
    pub fn confusion(&self) -> Option<(usize, usize, String)> {
        let all = &self.all;
        let mut first: BTreeMap<Fingerprint, usize> = BTreeMap::new();
        for (at, node) in self.nodes.iter().enumerate() {
            let one = *first.entry(node.print).or_insert(at);
            let other = &self.nodes[one];
            let places = |node: &Node| node.order.to_places(node.enabled);
            if places(node) != places(other) {
                return Some((one, at, "others can move".to_owned()));
            }
            if all[one] != all[at] {
                return Some((one, at, "they come to other ends".to_owned()));
            }
            let next = |node: &Node| -> BTreeMap<u64, Fingerprint> {
                let next = node.next.iter();
                next.map(|(actor, next)| {
                    (node.order.to_places(1 << actor), self.nodes[*next].print)
                })
                .collect()
            };
            let (here, there) = (next(node), next(other));
            let differs = here.iter().find(|(place, print)| there.get(place) != Some(*print));
            if let Some((place, _)) = differs {
                let actor = node.order.to_actors(*place).trailing_zeros();
                return Some((one, at, format!("a step of actor {actor} leads to two states")));
            }
        }
        None
    }

    /// The steps to a state, in words.
    pub fn path<S: Subject>(&self, start: &World<S>, mut at: usize) -> String {
        let mut steps = Vec::new();
        while let Some((from, actor)) = self.nodes[at].from {
            steps.push(actor);
            at = from;
        }
        let mut world = start.clone();
        let mut words = String::new();
        for actor in steps.into_iter().rev() {
            let did = world.apply(actor);
            words += &format!("  {}: {}\n", world.actor_name(actor), world.describe(&did));
        }
        words
    }

    /// Who can move in a state, and who of them does in a reduced search.
    pub fn movers<S: Subject>(&self, start: &World<S>, at: usize) -> String {
        let names = |mask| actors(mask).map(|actor| start.actor_name(actor)).collect::<Vec<_>>();
        let node = &self.nodes[at];
        format!("of {:?} only {:?}", names(node.enabled), names(node.needed))
    }

    pub fn sums(&self) -> Sums {
        let mut prints: Vec<_> = self.nodes.iter().map(|node| node.print).collect();
        prints.sort_unstable();
        prints.dedup();
        Sums {
            worlds: 1,
            skipped: 0,
            states: self.nodes.len(),
            reduced: self.nodes.iter().filter(|node| node.needed != node.enabled).count(),
            merged: self.nodes.len() - prints.len(),
            failing: self.ends.iter().filter(|end| end.starts_with("Some")).count(),
        }
    }
}

impl std::ops::AddAssign for Sums {
    fn add_assign(&mut self, other: Sums) {
        self.worlds += other.worlds;
        self.skipped += other.skipped;
        self.states += other.states;
        self.reduced += other.reduced;
        self.merged += other.merged;
        self.failing += other.failing;
    }
}

fn actors(mask: u64) -> impl Iterator<Item = usize> {
    (0..64).filter(move |actor| mask >> actor & 1 == 1)
}

/// Without what tells tasks with one program apart, or workers.
fn anonymous<S: Subject>(world: &World<S>, what: &str) -> String {
    let programs = &world.setup().programs;
    let words = what.split_inclusive(|c: char| !c.is_ascii_alphanumeric()).map(|word| {
        let name = word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
        let own = programs.iter().find(|program| program.name == name);
        let first = own.and_then(|own| programs.iter().find(|program| program.ops == own.ops));
        match first {
            Some(first) => word.replacen(name, &first.name, 1),
            None if name.starts_with("worker") => "worker ".to_owned(),
            None => word.to_owned(),
        }
    });
    words.collect()
}
