//! Bounded work and fairness: what a handler that does not wait is told, that whoever is kept from
//! moving is told nothing, and that right handlers never hear of it.

use std::sync::Arc;

use faultbed::model::Model;
use faultbed::{catalogue, coop, zoo};
use handler::Policy;
use shims::{CopyMode, Event, Features, Len, Span, Uffd as _, Verdict, Waiter as _};
use sim::coop::{Bed, Coop};
use sim::explore::{self, Gauge, Strategy};
use sim::scenario;
use sim::sync::{Arc as Shared, Mutex, mpsc, thread};
use sim::world::{Mishap, Move, Patience, Setup, Subject, World, page_addr, page_index};

fn setup(text: &str) -> Arc<Setup> {
    let text = format!("faultbed scenario 1\nname patience\n{text}");
    Arc::new(scenario::parse("patience", &text).unwrap_or_else(|error| panic!("{error}")))
}

/// One thread reads, `workers` others install, and try again at once.
fn at_once(bed: Bed, workers: usize) -> Result<(), String> {
    let (send, receive) = mpsc::channel();
    let receive = Shared::new(Mutex::new(receive));
    let uffd = bed.uffd();
    for _ in 0..workers {
        let receive = Shared::clone(&receive);
        thread::spawn(move || {
            loop {
                let next = receive.lock().unwrap().recv();
                let Ok(page) = next else { return };
                let span = Span::new(page_addr(page), Len::new(4096));
                let mut bytes = vec![0; 4096];
                bed.source().read_page(page, &mut bytes);
                while uffd.copy(span, &bytes, CopyMode::empty()).verdict() == Verdict::Changing {}
            }
        });
    }
    let mut events = Vec::new();
    loop {
        bed.waiter().wait(None).map_err(|errno| errno.to_string())?;
        let _ = uffd.read_events(&mut events, 16);
        for event in events.drain(..) {
            if let Event::Fault(fault) = event {
                send.send(page_index(fault.addr).unwrap()).map_err(|_| "no worker")?;
            }
        }
    }
}

/// Move only those of `who` that can, up to `most` steps. Tells how many there were.
fn only<S: Subject>(world: &mut World<S>, who: &[usize], most: usize) -> usize {
    for count in 0..most {
        let enabled = world.enabled();
        let Some(actor) = who.iter().find(|actor| enabled >> **actor & 1 == 1) else {
            return count;
        };
        world.apply(*actor);
    }
    most
}

#[test]
fn who_tries_again_at_once_is_busy_when_its_own_reader_has_had_its_turn() {
    let setup =
        setup("memory 2 pages\nworkers 1\ntask guest\n  read 0\ntask balloon\n  dontneed 1\n");
    let handler = Coop::new(&setup, |bed| at_once(bed, 1));
    let mut world = World::new(setup, handler);
    let (guest, balloon, main, worker) = (0, 1, 2, 3);
    only(&mut world, &[guest, main], 1_000);
    only(&mut world, &[balloon], 1_000);
    // Whoever moves nobody but the worker has kept the reader waiting: that is not its fault.
    assert_eq!(only(&mut world, &[worker], 1_000), 1_000);
    assert_eq!(world.failure(), None);
    // The message is read now, and the balloon is elsewhere: only who waits makes nothing of it.
    assert!(only(&mut world, &[main], 1_000) > 0);
    assert!(only(&mut world, &[worker], 1_000) < 1_000);
    let failure = world.failure().expect("it is busy");
    assert_eq!(failure.class(), "busy");
    assert_eq!(failure.to_string(), "copy page 0 came to nothing 101 times while nothing changed");
}

#[test]
fn a_worker_that_is_kept_from_moving_starves_nobody() {
    let mut text = "memory 7 pages\nworkers 2\npatience starved 2\n".to_owned();
    for page in 0..7 {
        text += &format!("task t{page}\n  read {page}\n");
    }
    let setup = setup(&text);
    let handler = Coop::new(&setup, |bed| at_once(bed, 2));
    let mut world = World::new(setup, handler);
    let (main, slow, other) = (7, 8, 9);
    only(&mut world, &[0, main], 1_000);
    // It takes the first page, and then the processor.
    let took = only(&mut world, &[slow], 3);
    let all: Vec<usize> = (0..=main).chain([other]).collect();
    let moved = only(&mut world, &all, 10_000);
    assert!(took == 3 && moved > 60, "{moved}");
    assert_eq!(world.failure(), None);
    only(&mut world, &[slow, main, other, 0, 1, 2, 3, 4, 5, 6], 10_000);
    world.finish();
    assert_eq!(world.failure(), None);
}

#[test]
fn in_a_lull_nobody_moves_but_the_handler_until_it_rests() {
    let setup = setup(
        "memory 2 pages\nworkers 2\nmishaps lull 2\ntask a\n  read 0..2\ntask b\n  dontneed 0\n",
    );
    let start = World::new(Arc::clone(&setup), Model::new(Policy::default(), &setup));
    let gauge = Gauge::measure(&start, 1);
    let (mut lulls, mut rests, mut after) = (0, 0, 0);
    for number in 0..300 {
        let mut world = start.clone();
        let mut walk = Strategy::Portfolio.walk(1, number, &gauge);
        let handler = (1 << world.clock_actor()) - (1 << 2);
        let (mut lull, mut over) = (false, false);
        loop {
            let enabled = world.enabled();
            if enabled == 0 {
                break;
            }
            let others = enabled & !handler;
            assert!(!lull || others == 0 || enabled & handler == 0);
            rests += u32::from(lull && enabled & handler == 0);
            over |= lull && enabled & handler == 0;
            lull &= enabled & handler != 0;
            after += u32::from(over && !lull && others != 0 && enabled & handler != 0);
            let did = world.apply(explore::Chooser::choose(&mut walk, enabled));
            if did == Move::Mishap(Mishap::Lull) {
                (lull, over, lulls) = (true, false, lulls + 1);
            }
        }
        world.finish();
        assert_eq!(world.failure(), None);
    }
    assert!(lulls > 300 && rests > 100 && after > 100, "{lulls} {rests} {after}");
}

/// A twelfth of what is put up with otherwise.
const LITTLE: Patience = Patience { busy: 8, starved: 8 };

/// With little patience and a world that holds still whenever the search likes.
fn strict(mut setup: Setup) -> Arc<Setup> {
    setup.patience = LITTLE;
    setup.mishaps.allow(Mishap::Lull, 3);
    Arc::new(setup)
}

#[test]
fn our_handler_is_never_busy_and_starves_nobody() {
    for entry in catalogue::all() {
        let setup = strict(entry.setup);
        let start = World::new(Arc::clone(&setup), Model::new(Policy::default(), &setup));
        let gauge = Gauge::measure(&start, 1);
        for number in 0..80 {
            let mut walk = Strategy::Portfolio.walk(1, number, &gauge);
            let outcome = explore::run(&mut start.clone(), &mut walk);
            assert_eq!(outcome.failure, None, "{}, walk {number}", entry.key);
        }
    }
}

/// Of the catalogue, those worlds in which code on coroutines that knows faults and removals can be.
#[test]
fn handlers_of_ordinary_code_are_not_busy_either() {
    let mut place = zoo::places().into_iter().find(|place| place.name == "held_up").unwrap();
    let mut searched = 0;
    for entry in catalogue::all() {
        let told = entry.setup.features == Features::EVENT_REMOVE;
        if told && entry.setup.mishaps.is_empty() {
            place.setup = strict(entry.setup);
            assert_eq!(zoo::wrong_in(&place, 40), None, "{}", entry.key);
            searched += 1;
        }
    }
    assert!(searched >= 20, "{searched}");
}

/// Its pause doubles: it is over later than that of a younger fault, and that is no starving.
#[test]
fn the_threads_driver_may_put_off_longer_what_was_refused_more_often() {
    let places = zoo::places();
    let place = places.iter().find(|place| place.name == "put_off_beside").unwrap();
    let driver = coop::threads(Policy::default(), &place.setup);
    let start = World::new(Arc::clone(&place.setup), driver);
    let gauge = Gauge::measure(&start, 1);
    for number in 0..1_000 {
        let mut walk = Strategy::Portfolio.walk(1, number, &gauge);
        assert_eq!(explore::run(&mut start.clone(), &mut walk).failure, None, "walk {number}");
    }
}

#[test]
fn patience_is_part_of_a_scenario() {
    let set = |line: &str| setup(&format!("memory 1 pages\n{line}\ntask a\n  read 0\n"));
    let patience = |busy, starved| Patience { busy, starved };
    let usual = Patience::default();
    assert_eq!(set("").patience, usual);
    assert_eq!(set("patience busy 3").patience, patience(3, usual.starved));
    assert_eq!(set("patience starved 2 busy 7").patience, patience(7, 2));
    let printed = set("patience starved 2").to_string();
    assert!(printed.contains("patience  busy 100 starved 2\n"), "{printed}");
    assert_eq!(scenario::parse("printed", &printed).unwrap().patience, patience(usual.busy, 2));
    assert!(!set("").to_string().contains("busy"));
    for (line, why) in [
        ("patience", "expected `busy` or `starved`, found the end of the line"),
        ("patience calm 3", "expected `busy` or `starved`, found `calm`"),
        ("patience busy 0", "expected how often from 1 to 10000, found 0"),
        ("patience busy 3 busy 4", "`busy` was given already"),
    ] {
        let text = format!("faultbed scenario 1\nname x\nmemory 1 pages\n{line}\ntask a\n");
        let error = scenario::parse("t.fbs", &text).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}
