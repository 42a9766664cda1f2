//! Handlers made of ordinary code, on coroutines: our `threads` driver without a change, and
//! small handlers with one mistake each in their own locking.

use std::sync::Arc;

use faultbed::{catalogue, coop};
use handler::Policy;
use shims::{CopyMode, Event, Span, Uffd as _, Waiter as _};
use sim::coop::{Bed, Coop};
use sim::explore::{self, Outcome, RandomWalk, Replay};
use sim::scenario;
use sim::sync::{Condvar, Mutex, RwLock, mpsc, thread};
use sim::world::{Check, Failure, Finally, Op, Setup, World};

/// The first failure among `walks` random walks.
fn search(setup: &Arc<Setup>, handler: &Coop, walks: u64) -> Option<(u64, Outcome)> {
    let start = World::new(Arc::clone(setup), handler.clone());
    (0..walks).find_map(|walk| {
        let outcome = explore::run(&mut start.clone(), &mut RandomWalk::new(1, walk));
        outcome.failure.is_some().then_some((walk, outcome))
    })
}

fn setup(text: &str) -> Arc<Setup> {
    let text = format!("faultbed scenario 1\nname coop\n{text}");
    Arc::new(scenario::parse("coop", &text).expect("a well-formed scenario"))
}

/// A coroutine has no controls, keeps no records that a world could ask for, serves no
/// children and has small pages.
fn fits(setup: &Setup) -> bool {
    let control = |op: &Op| matches!(op, Op::Control(_));
    let state = |finally: &Finally| matches!(finally.check, Check::State(..));
    !setup.programs.iter().flat_map(|program| &program.ops).any(control)
        && !setup.finally.iter().any(state)
        && setup.children() == 0
        && setup.memory.page_size() == sim::kernel::PAGE
}

#[test]
fn the_threads_driver_passes_the_catalogue() {
    let mut searched = 0;
    for entry in catalogue::all() {
        if !fits(&entry.setup) {
            continue;
        }
        let setup = Arc::new(entry.setup);
        let driver = coop::threads(Policy::default(), &setup);
        if let Some((walk, outcome)) = search(&setup, &driver, 60) {
            panic!("{}, walk {walk}: {}", entry.key, outcome.failure.unwrap());
        }
        searched += 1;
    }
    assert!(searched >= 15, "{searched} scenarios");
}

#[test]
fn the_threads_driver_loses_an_install_if_it_trusts_its_records() {
    let setup = Arc::new(catalogue::find("lost_install").expect("built in").setup);
    let driver = coop::threads(Policy::short_circuit(), &setup);
    let (_, outcome) = search(&setup, &driver, 20_000).expect("it hangs");
    let Some(Failure::Hang(stuck)) = outcome.failure else { panic!("{:?}", outcome.failure) };
    let text = Failure::Hang(stuck).to_string();
    assert!(text.contains("the handler took the fault and never woke it"), "{text}");
    assert!(text.contains("faultbed-work-0 waits on condition `work`"), "{text}");
}

/// One thread that reads one page.
const ONE_READ: &str = "memory 2 pages\ntask guest\n  read 0\n";

/// Two threads that read a page each.
const TWO_READS: &str = "memory 2 pages\ntask one\n  read 0\ntask two\n  read 1\n";

/// Read messages for ever, `serve` each fault's page.
fn serve(bed: Bed, mut serve: impl FnMut(u64)) -> Result<(), String> {
    let (uffd, waiter) = (bed.uffd(), bed.waiter());
    let mut events = Vec::new();
    loop {
        waiter.wait(None).map_err(|errno| errno.to_string())?;
        match uffd.read_events(&mut events, 16) {
            Ok(_) | Err(shims::Errno::EAGAIN) => {}
            Err(errno) => return Err(format!("read: {errno}")),
        }
        for event in events.drain(..) {
            if let Event::Fault(fault) = event {
                serve(sim::world::page_index(fault.addr).expect("a page of the world"));
            }
        }
    }
}

fn install(bed: Bed, page: u64) {
    let mut bytes = vec![0; 4096];
    bed.source().read_page(page, &mut bytes);
    let dst = Span::new(sim::world::page_addr(page), shims::Len::new(4096));
    bed.uffd().copy(dst, &bytes, CopyMode::empty());
}

#[test]
fn a_plain_loop_serves_two_faulters() {
    let setup = setup(TWO_READS);
    let handler = Coop::new(&setup, |bed| serve(bed, |page| install(bed, page)));
    assert_eq!(search(&setup, &handler, 500), None);
}

#[test]
fn a_thread_for_each_fault_is_joined() {
    let setup = setup(TWO_READS);
    let handler = Coop::new(&setup, |bed| {
        let (done, all) = mpsc::channel();
        let served = serve(bed, |page| {
            let done = done.clone();
            thread::spawn(move || {
                install(bed, page);
                done.send(page).expect("the receiver lives as long as the handler");
            });
        });
        assert!(all.recv().is_ok());
        served
    });
    assert_eq!(search(&setup, &handler, 500), None);
}

#[test]
fn two_locks_taken_in_two_orders_are_a_deadlock_that_names_threads_and_locks() {
    let setup = setup(TWO_READS);
    let handler = Coop::new(&setup, |bed| {
        let (a, b) = (Arc::new(Mutex::named("pages", ())), Arc::new(Mutex::named("stats", 0)));
        let (send, receive) = mpsc::channel::<u64>();
        let (a2, b2) = (Arc::clone(&a), Arc::clone(&b));
        let worker = thread::Builder::new().name("worker".to_owned()).spawn(move || {
            while let Ok(page) = receive.recv() {
                let _pages = a2.lock().unwrap();
                *b2.lock().unwrap() += 1;
                install(bed, page);
            }
        });
        serve(bed, |page| {
            *b.lock().unwrap() += 1;
            let stats = b.lock().unwrap();
            let _pages = a.lock().unwrap();
            drop(stats);
            send.send(page).expect("the worker lives");
        })?;
        worker.map(drop).map_err(|error| error.to_string())
    });
    // The orders contradict each other in every run that comes to both.
    let (walk, outcome) = search(&setup, &handler, 10).expect("an inversion");
    let text = outcome.failure.as_ref().expect("it failed").to_string();
    if outcome.failure.as_ref().map(Failure::class) == Some("lock-order") {
        assert!(text.contains("main took `pages` while it held `stats`"), "walk {walk}: {text}");
        assert!(text.contains("worker took `stats` while it held `pages`"), "walk {walk}: {text}");
    }
    let found = (0..500).find_map(|walk| {
        let start = World::new(Arc::clone(&setup), handler.clone());
        let outcome = explore::run(&mut start.clone(), &mut RandomWalk::new(2, walk));
        outcome.failure.filter(|failure| failure.class() == "deadlock")
    });
    let text = found.expect("a deadlock").to_string();
    for part in [
        "main waits for lock `pages`, which worker holds, holding `stats`",
        "worker waits for lock `stats`, which main holds, holding `pages`",
    ] {
        assert!(text.contains(part), "{text}");
    }
}

/// A queue between a reader and a worker.
struct Queue {
    pages: Mutex<Vec<u64>>,
    more: Condvar,
}

/// A reader that puts pages into a queue, and a worker that takes them out. The worker looks
/// into the queue and goes to sleep, and if `careful` lets nobody in between.
fn queue(bed: Bed, careful: bool) -> Result<(), String> {
    let queue = Arc::new(Queue { pages: Mutex::new(Vec::new()), more: Condvar::named("more") });
    let works = Arc::clone(&queue);
    thread::spawn(move || {
        loop {
            let mut pages = works.pages.lock().unwrap();
            if pages.is_empty() {
                if !careful {
                    drop(pages);
                    pages = works.pages.lock().unwrap();
                }
                pages = works.more.wait(pages).unwrap();
            }
            let page = pages.pop();
            drop(pages);
            page.into_iter().for_each(|page| install(bed, page));
        }
    });
    serve(bed, |page| {
        queue.pages.lock().unwrap().push(page);
        queue.more.notify_one();
    })
}

#[test]
fn a_lost_wake_up_is_found_and_the_sleeper_named() {
    let setup = setup(ONE_READ);
    let careful = Coop::new(&setup, |bed| queue(bed, true));
    assert_eq!(search(&setup, &careful, 2_000), None);
    let careless = Coop::new(&setup, |bed| queue(bed, false));
    let (_, outcome) = search(&setup, &careless, 2_000).expect("a lost wake-up");
    let failure = outcome.failure.expect("it failed");
    assert_eq!(failure.class(), "hang");
    let text = failure.to_string();
    assert!(text.contains("thread1 waits on condition `more`"), "{text}");
    assert!(text.contains("guest sleeps on a read of page 0"), "{text}");
}

#[test]
fn a_reader_that_reads_twice_meets_a_writer_in_between() {
    let setup = setup(TWO_READS);
    let handler = |twice: bool| {
        Coop::new(&setup, move |bed: Bed| {
            let lock = Arc::new(RwLock::named("state", 0));
            let writes = Arc::clone(&lock);
            thread::spawn(move || *writes.write().unwrap() += 1);
            serve(bed, |page| {
                let first = lock.read().unwrap();
                let second = twice.then(|| lock.read().unwrap());
                drop((first, second));
                install(bed, page);
            })
        })
    };
    assert_eq!(search(&setup, &handler(false), 1_000), None);
    let (_, outcome) = search(&setup, &handler(true), 1_000).expect("a deadlock");
    assert_eq!(outcome.failure.map(|failure| failure.class()), Some("deadlock"));
}

#[test]
fn a_panic_of_a_thread_is_a_failure_that_tells_who_and_what() {
    let setup = setup(ONE_READ);
    let handler = Coop::new(&setup, |bed| {
        // A panic that is caught is the handler's own affair.
        let caught = std::panic::catch_unwind(|| std::panic::resume_unwind(Box::new("caught")));
        assert!(caught.is_err());
        serve(bed, |page| {
            let other = thread::Builder::new().name("other".to_owned());
            let other =
                other.spawn(move || std::panic::resume_unwind(Box::new(format!("no {page}"))));
            let _: Result<(), _> = other.expect("it starts").join();
        })
    });
    let (_, outcome) = search(&setup, &handler, 1).expect("a panic");
    let text = outcome.failure.expect("it failed").to_string();
    assert_eq!(text, "other panicked: no 0");
}

#[test]
fn a_handler_that_only_wakes_and_sleeps_again_is_at_rest() {
    let setup = setup(ONE_READ);
    let polls = |serves: bool| {
        Coop::new(&setup, move |bed: Bed| {
            let (uffd, waiter) = (bed.uffd(), bed.waiter());
            let mut events = Vec::new();
            loop {
                let until = waiter.now().after(std::time::Duration::from_millis(5));
                if !serves {
                    thread::sleep(std::time::Duration::from_millis(5));
                    continue;
                }
                waiter.wait(Some(until)).map_err(|errno| errno.to_string())?;
                if uffd.read_events(&mut events, 16).is_ok() {
                    events.clear();
                    install(bed, 0);
                }
            }
            #[expect(unreachable_code, reason = "names the type")]
            Ok::<(), String>(())
        })
    };
    assert_eq!(search(&setup, &polls(true), 50), None);
    let (_, outcome) = search(&setup, &polls(false), 1).expect("nobody serves the page");
    assert_eq!(outcome.failure.map(|failure| failure.class()), Some("hang"));
}

#[test]
fn a_copy_of_a_world_goes_on_where_the_world_was() {
    let setup = Arc::new(catalogue::find("two_removers").expect("built in").setup);
    let start = World::new(Arc::clone(&setup), coop::threads(Policy::default(), &setup));
    let whole = explore::run(&mut start.clone(), &mut RandomWalk::new(3, 0));
    let mut chooser = RandomWalk::new(3, 0);
    let mut world = start;
    for _ in 0..whole.steps / 2 {
        let actor = explore::Chooser::choose(&mut chooser, world.enabled());
        world.apply(actor);
    }
    let mut copy = world.clone();
    assert!(copy == world);
    let one = explore::run(&mut world, &mut chooser.clone());
    let other = explore::run(&mut copy, &mut chooser);
    assert_eq!((&one, &one), (&other, &whole));
}

#[test]
fn a_recorded_run_replays_by_the_names_of_threads_that_did_not_exist_yet() {
    let setup = Arc::new(catalogue::find("lost_install").expect("built in").setup);
    let driver = coop::threads(Policy::short_circuit(), &setup);
    let (walk, outcome) = search(&setup, &driver, 20_000).expect("it hangs");
    let start = World::new(Arc::clone(&setup), driver);
    let (again, steps) = explore::record(&mut start.clone(), &mut RandomWalk::new(1, walk));
    assert_eq!(again, outcome);
    assert!(steps.iter().any(|step| step.actor == "faultbed-work-1" && step.what == "lock `desk`"));
    let (replayed, report) = Replay::new(&steps).run(&mut start.clone(), |_, _, _| {});
    assert_eq!(replayed, outcome);
    assert!(report.exact(), "{report:?}");
}
