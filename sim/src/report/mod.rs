//! A run as a story: what each step did, the rule behind it, and what kernel and handler held
//! afterwards. Owns the facts; how they are drawn is the business of whoever draws them.

mod rules;
mod turns;

use crate::Content;
use crate::explore::{self, Outcome};
use crate::kernel::Pte;
use crate::schedule::Schedule;
use crate::world::{Subject, World};

pub use rules::Rule;
pub use turns::Turn;

/// What an actor is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kind {
    /// A thread of the monitored process.
    Task,
    /// A thread of the handler.
    Handler,
    /// The passing of time.
    Clock,
}

/// An actor of a story.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Actor {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: Kind,
}

/// What stands behind a page table entry, in a word.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Holds {
    /// No page.
    Absent,
    /// Zeros.
    Zero,
    /// Bytes of the source.
    Source,
    /// What a task wrote.
    Written,
    /// A marker: write-protected, poisoned, guarded.
    Marker,
}

/// A page at one moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Page {
    /// What the kernel has there.
    pub holds: Holds,
    /// The same in words.
    pub words: String,
    /// What the handler takes it for.
    pub state: &'static str,
}

/// The userfaultfd at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Queues {
    /// Faults nobody has read.
    pub unread: usize,
    /// Faults that were read and whose threads sleep on.
    pub taken: usize,
    /// Events nobody has read.
    pub events: usize,
    /// `mmap_changing`.
    pub changing: u32,
}

/// A step of a story.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Scene {
    /// Who, by its place in [`Story::actors`].
    pub actor: usize,
    /// What.
    pub what: String,
    /// The rule behind it, if it is the kernel's.
    pub rule: Option<&'static Rule>,
    /// The userfaultfd afterwards.
    pub queues: Queues,
    /// The pages afterwards.
    pub pages: Vec<Page>,
}

/// A run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Story {
    /// Who takes part, by the actors' numbers; those that never move are there as well.
    pub actors: Vec<Actor>,
    /// The pages before the first step.
    pub before: Vec<Page>,
    /// The steps.
    pub scenes: Vec<Scene>,
    /// How it ended.
    pub outcome: Outcome,
}

impl Story {
    /// The story of `schedule` in `world`, which stands at its start. Steps that are not
    /// possible are left out, as in a [replay](explore::Replay); so is what comes behind the
    /// schedule's end, unless the run would not have come to its own.
    pub fn tell<S: Subject>(schedule: &Schedule, world: &mut World<S>) -> Story {
        let tasks = world.setup().programs.len();
        let clock = world.clock_actor();
        let actors: Vec<Actor> = explore::names(world)
            .into_iter()
            .enumerate()
            .map(|(i, name)| {
                let kind = match i {
                    i if i < tasks => Kind::Task,
                    i if i >= clock => Kind::Clock,
                    _ => Kind::Handler,
                };
                Actor { name, kind }
            })
            .collect();
        let before = pages(world);
        let mut scenes = Vec::new();
        let mut steps = schedule.steps.iter();
        let mut turn = 0;
        loop {
            let enabled = world.enabled();
            if enabled == 0 {
                break;
            }
            let actor = match steps.next() {
                Some(step) => match actors.iter().position(|actor| actor.name == step.actor) {
                    Some(actor) if enabled >> actor & 1 == 1 => actor,
                    _ => continue,
                },
                None => {
                    turn += 1;
                    explore::nth_set_bit(enabled, turn % enabled.count_ones())
                }
            };
            let did = world.apply(actor);
            scenes.push(Scene {
                actor,
                what: world.describe(&did),
                rule: rules::behind(&did),
                queues: queues(world),
                pages: pages(world),
            });
        }
        let outcome = explore::end(world);
        Story { actors, before, scenes, outcome }
    }

    /// The rules that the story meets, in the order in which it does.
    pub fn rules(&self) -> Vec<&'static Rule> {
        let mut rules: Vec<&'static Rule> = Vec::new();
        for rule in self.scenes.iter().filter_map(|scene| scene.rule) {
            if !rules.contains(&rule) {
                rules.push(rule);
            }
        }
        rules
    }

    /// The actors that move at all, in order.
    pub fn movers(&self) -> Vec<usize> {
        (0..self.actors.len())
            .filter(|actor| self.scenes.iter().any(|scene| scene.actor == *actor))
            .collect()
    }
}

fn queues<S: Subject>(world: &World<S>) -> Queues {
    let ctx = world.kernel().ctx(world.ctx());
    Queues {
        unread: ctx.faults_unread(),
        taken: ctx.faults_waiting() - ctx.faults_unread(),
        events: ctx.events_unread(),
        changing: ctx.changing(),
    }
}

fn pages<S: Subject>(world: &World<S>) -> Vec<Page> {
    (0..world.setup().pages)
        .map(|page| {
            let pte = world.kernel().table(world.mm()).get(world.setup().addr(page).raw() >> 12);
            let (holds, words) = match pte {
                Pte::None => (Holds::Absent, "absent".to_owned()),
                Pte::Marker(marker) => (Holds::Marker, format!("{marker:?}")),
                Pte::Present { content, .. } => {
                    let holds = match content {
                        Content::Zero => Holds::Zero,
                        Content::Source { .. } => Holds::Source,
                        Content::Written { .. } | Content::Bytes(_) => Holds::Written,
                    };
                    (holds, content.to_string())
                }
            };
            Page { holds, words, state: world.subject().state_name(page) }
        })
        .collect()
}
