//! All states of a small world, and what the runs from each of them can come to: with all steps,
//! and with those alone that a reduced search takes. Owns the graph and the comparison.

use std::collections::{BTreeMap, BTreeSet};

use sim::explore::{End, Exhaust, Exhaustible, Fingerprint};
use sim::kernel::Did;
use sim::world::{Move, Order, Subject, World};

/// Ends of runs, a bit each.
type Ends = u128;

pub(crate) struct Node {
    /// What the state is for a reduced search, and who takes whose place in it.
    print: Fingerprint,
    order: Order,
    /// The same without how often time has hurried.
    pub(crate) bare: Fingerprint,
    /// Actors that can move.
    pub(crate) enabled: u64,
    /// Those that a reduced search moves.
    pub(crate) needed: u64,
    /// Those, and who could change places with one of them.
    pub(crate) held: u64,
    pub(crate) next: Vec<(usize, usize)>,
    /// Pairs of actors whose steps a reduced search takes to come out the same in either order.
    pub(crate) apart: Vec<(usize, usize)>,
    /// Threads that are between the two looks of an ioctl at the gate, which a reduced search
    /// takes to be one step.
    between: u64,
    /// Those of them that it moves on at once.
    pub(crate) goes_on: u64,
    /// From where, and by whose step, it was reached first.
    from: Option<(usize, usize)>,
    pub(crate) end: Ends,
}

/// The states of a world.
pub struct Graph {
    pub(crate) nodes: Vec<Node>,
    /// What the runs come to, in words.
    pub ends: Vec<String>,
    /// Each state behind all that follow it, but for circles.
    pub(crate) order: Vec<usize>,
    /// The actor that stands for the passing of time.
    pub(crate) clock: usize,
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
        let mut graph = Graph {
            nodes: Vec::new(),
            ends: Vec::new(),
            order: Vec::new(),
            clock: start.clock_actor(),
            all: Vec::new(),
        };
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
        let (bare, order) = Exhaustible::arranged(world);
        let print = Fingerprint::of(&(bare, hurried));
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
        let twin = |one: usize| actors(needed).any(|other| world.are_twins(other, one));
        let held = actors(enabled).filter(|actor| twin(*actor));
        let held = held.fold(needed, |mask, actor| mask | 1 << actor);
        let prints: Vec<_> = actors(enabled).map(|a| (a, world.footprint(a))).collect();
        let pairs = prints.iter().enumerate().flat_map(|(i, one)| {
            let others = prints[i + 1..].iter();
            others
                .filter(|(_, other)| one.1.is_independent_of(*other))
                .map(|other| (one.0, other.0))
        });
        let apart = pairs.collect();
        let goes_on = actors(enabled).filter(|actor| world.goes_on(*actor));
        let goes_on = goes_on.fold(0, |mask, actor| mask | 1 << actor);
        let next = Vec::new();
        Node { print, order, bare, enabled, needed, held, next, apart, between, goes_on, from, end }
    }

    /// The ends that a reduced search comes to and a look at every state does not, or the other
    /// way round.
    pub fn missed<S: Subject>(&self, start: &World<S>, hurries: u32) -> Vec<String> {
        let search = Exhaust { reduce: true, hurries, states: usize::MAX, keep_going: true };
        let census = search.run(start, |_| true);
        let words = |end: &End| format!("{:?} {}", end.class, anonymous(start, &end.what));
        let found: BTreeSet<String> = census.outcomes.keys().map(words).collect();
        let all: BTreeSet<String> = self.ends.iter().cloned().collect();
        all.symmetric_difference(&found).cloned().collect()
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

    /// The steps to a state, and those of `then` behind it, in words.
    pub fn path<S: Subject>(&self, start: &World<S>, mut at: usize, then: &[usize]) -> String {
        let mut steps = Vec::new();
        while let Some((from, actor)) = self.nodes[at].from {
            steps.push(actor);
            at = from;
        }
        let mut world = start.clone();
        let mut words = String::new();
        for actor in steps.into_iter().rev().chain(then.iter().copied()) {
            if world.enabled() >> actor & 1 == 0 {
                words += &format!("  {}: cannot move\n", world.actor_name(actor));
                continue;
            }
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

pub(crate) fn actors(mask: u64) -> impl Iterator<Item = usize> {
    (0..64).filter(move |actor| mask >> actor & 1 == 1)
}

/// Without what tells tasks with one program apart, or workers.
fn anonymous<S: Subject>(world: &World<S>, what: &str) -> String {
    let programs = &world.setup().programs;
    let what = unnumbered(world, what);
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

/// With the line of the first of several tasks with one program.
fn unnumbered<S: Subject>(world: &World<S>, what: &str) -> String {
    let programs = &world.setup().programs;
    let number = what.strip_prefix("line ").and_then(|rest| rest.split_once(':'));
    let Some((number, rest)) = number else { return what.to_owned() };
    let line: u32 = number.parse().expect("lines are numbers");
    let places = programs.iter().map(|own| (own, own.lines.iter().position(|at| *at == line)));
    let place = places.into_iter().find_map(|(own, at)| Some((own, at?)));
    let Some((own, at)) = place else { return what.to_owned() };
    let first = programs.iter().find(|program| program.ops == own.ops).expect("there is itself");
    format!("line {}:{rest}", first.lines[at])
}
