//! Property tests over random small worlds: whatever the tasks do, in whatever order, the
//! default handler serves them. A failure shrinks to a small scenario, which is printed.

use std::sync::Arc;

use faultbed::model::Model;
use handler::Policy;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use sim::explore::{RandomWalk, run};
use sim::scenario;
use sim::world::{Memory, Setup, World};

const PAGES: u64 = 3;

fn operation() -> impl Strategy<Value = String> {
    let page = 0..PAGES;
    let range = (0..PAGES, 1..=PAGES).prop_map(|(start, len)| (start, (start + len).min(PAGES)));
    prop_oneof![
        4 => page.clone().prop_map(|page| format!("read {page}")),
        4 => page.prop_map(|page| format!("write {page}")),
        3 => range.clone().prop_map(|(a, b)| format!("dontneed {a}..{b}")),
        1 => range.clone().prop_map(|(a, b)| format!("populate-read {a}..{b}")),
        1 => range.clone().prop_map(|(a, b)| format!("populate-write {a}..{b}")),
        1 => range.prop_map(|(a, b)| format!("mprotect {a}..{b} rw")),
        1 => Just("snapshot".to_owned()),
        1 => Just("baseline".to_owned()),
    ]
}

fn world() -> impl Strategy<Value = String> {
    let task = prop::collection::vec(operation(), 1..5);
    (1..=3usize, any::<bool>(), prop::collection::vec(task, 1..4)).prop_map(|(workers, wp, tasks)| {
        let modes = if wp { "missing wp" } else { "missing" };
        let mut text = format!(
            "faultbed scenario 1\nname random\nmemory {PAGES} pages {modes}\nworkers {workers}\n"
        );
        for (i, ops) in tasks.iter().enumerate() {
            text.push_str(&format!("task t{i}\n"));
            // Only where writes are tracked can there be a baseline.
            for op in ops.iter().filter(|op| wp || *op != "baseline") {
                text.push_str(&format!("  {op}\n"));
            }
        }
        text
    })
}

/// Worlds whose memory moves and is unmapped, and whose tasks fork.
fn moving_world() -> impl Strategy<Value = String> {
    let place = 0..PAGES + 2;
    let operation = prop_oneof![
        4 => place.clone().prop_map(|page| format!("read {page}")),
        3 => place.clone().prop_map(|page| format!("write {page}")),
        3 => (place.clone(), place.clone()).prop_map(|(from, to)| {
            let to = if from == to { (to + 1) % (PAGES + 2) } else { to };
            format!("mremap {from} {to}")
        }),
        1 => (place.clone(), place.clone()).prop_map(|(from, to)| {
            let to = if from == to { (to + 1) % (PAGES + 2) } else { to };
            format!("mremap {from} {to} dontunmap")
        }),
        1 => place.clone().prop_map(|page| format!("munmap {page}")),
        2 => place.prop_map(|page| format!("dontneed {page}")),
    ];
    let task = prop::collection::vec(operation, 1..5);
    let tasks = prop::collection::vec(task.clone(), 1..4);
    (any::<bool>(), tasks, prop::option::of(task)).prop_map(|(wp, tasks, child)| {
        let modes = if wp { "missing wp" } else { "missing" };
        let mut text = format!(
            "faultbed scenario 1\nname random\nmemory {PAGES} pages {modes}\nroom 2\n\
             features remove unmap remap fork\nworkers 2\n"
        );
        for (i, ops) in tasks.iter().enumerate() {
            text.push_str(&format!("task t{i}\n"));
            // Messages of calls that overlap may be read in another order than the calls took
            // effect in, and then no handler can know: one thread alone moves, unmaps and gives up.
            let told = |op: &&String| i == 0 || !op.starts_with(['m', 'd']);
            for (n, op) in ops.iter().filter(told).enumerate() {
                text.push_str(&format!("  {op}\n"));
                if i == 0 && n == 0 && child.is_some() {
                    text.push_str("  fork child\n");
                }
            }
        }
        if let Some(ops) = child {
            text.push_str("task child\n");
            ops.iter().for_each(|op| text.push_str(&format!("  {op}\n")));
        }
        text
    })
}

/// Worlds of every kind of memory, with everything that can be done to it; and another process
/// that maps the same file, where there is one.
fn memory_world() -> impl Strategy<Value = String> {
    let page = 0..PAGES;
    let range = (0..PAGES, 1..=PAGES).prop_map(|(start, len)| (start, (start + len).min(PAGES)));
    let on = |word: &'static str| range.clone().prop_map(move |(a, b)| format!("{word} {a}..{b}"));
    let operation = prop_oneof![
        5 => page.clone().prop_map(|page| format!("read {page}")),
        4 => page.clone().prop_map(|page| format!("write {page}")),
        3 => on("dontneed"),
        3 => on("remove"),
        1 => on("free"),
        1 => on("cold"),
        1 => on("pageout"),
        1 => on("guard"),
        1 => on("unguard"),
        1 => on("populate-write"),
        1 => on("punch"),
        1 => page.prop_map(|pages| format!("truncate {}", pages + 1)),
        1 => Just("snapshot".to_owned()),
    ];
    let tasks = prop::collection::vec(prop::collection::vec(operation, 1..5), 1..4);
    let modes = prop::sample::select(vec!["missing", "minor", "missing minor", "missing wp"]);
    let kind = prop::sample::select(Memory::ALL.to_vec());
    (kind, modes, any::<bool>(), any::<bool>(), tasks).prop_map(
        |(kind, modes, filled, beside, tasks)| {
            let modes = if kind == Memory::Anon { "missing" } else { modes };
            let filled = if filled && kind.is_shared() { " filled" } else { "" };
            // Others may fill the file only where everybody is asked for what they put there.
            let modes = if modes == "missing wp" && !filled.is_empty() {
                "missing wp minor"
            } else {
                modes
            };
            let mut text = format!(
                "faultbed scenario 1\nname random\nmemory {PAGES} pages {kind} {modes}{filled}\n\
                 workers 2\n"
            );
            for (i, ops) in tasks.iter().enumerate() {
                let unseen = modes.contains("wp") && filled.is_empty();
                let other =
                    if i == 2 && beside && !unseen && kind.is_shared() { " beside" } else { "" };
                text.push_str(&format!("task t{i}{other}\n"));
                let file = |op: &&String| {
                    kind.has_file() || !op.starts_with("punch") && !op.starts_with("truncate")
                };
                ops.iter().filter(file).for_each(|op| text.push_str(&format!("  {op}\n")));
            }
            text
        },
    )
}

/// The default handler comes through forty random walks of the world.
fn survives_walks(setup: &Arc<Setup>, text: &str, seed: u64) -> Result<(), TestCaseError> {
    let start = World::new(Arc::clone(setup), Model::new(Policy::default(), setup));
    for walk in 0..40 {
        let mut world = start.clone();
        let outcome = run(&mut world, &mut RandomWalk::new(seed, walk));
        prop_assert!(
            outcome.failure.is_none(),
            "{}\n{text}\nseed {seed} walk {walk}",
            outcome.failure.unwrap()
        );
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn the_default_handler_serves_random_worlds(text in world(), seed: u64) {
        let setup = Arc::new(scenario::parse("random", &text).unwrap());
        survives_walks(&setup, &text, seed)?;
    }

    #[test]
    fn the_default_handler_follows_memory_that_moves(text in moving_world(), seed: u64) {
        let setup = Arc::new(scenario::parse("random", &text).unwrap());
        survives_walks(&setup, &text, seed)?;
    }

    #[test]
    fn the_default_handler_serves_every_kind_of_memory(text in memory_world(), seed: u64) {
        let setup = Arc::new(scenario::parse("random", &text).unwrap());
        prop_assert_eq!(
            scenario::parse("printed", &setup.to_string()).unwrap().to_string(),
            setup.to_string()
        );
        survives_walks(&setup, &text, seed)?;
    }

    #[test]
    fn a_clone_goes_on_like_the_original(text in world(), seed: u64) {
        let setup = Arc::new(scenario::parse("random", &text).unwrap());
        let mut one = World::new(Arc::clone(&setup), Model::new(Policy::default(), &setup));
        let mut chooser = RandomWalk::new(seed, 0);
        for _ in 0..20 {
            let enabled = one.enabled();
            if enabled == 0 {
                break;
            }
            one.apply(sim::explore::Chooser::choose(&mut chooser, enabled));
        }
        let (mut two, mut same) = (one.clone(), chooser.clone());
        let (a, b) = (run(&mut one, &mut chooser), run(&mut two, &mut same));
        prop_assert_eq!(a, b);
        prop_assert_eq!(one, two);
    }
}
