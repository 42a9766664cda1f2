//! The worlds of the zoo: small, each for some mistakes. Owns their texts and which flaw is to be
//! found in which.

use std::sync::Arc;

use sim::scenario;
use sim::world::Setup;

use super::flaw::Flaw;
use super::plain::Trouble;

/// A world.
#[derive(Clone, Debug)]
pub struct Place {
    /// Its name.
    pub name: &'static str,
    /// What happens in it.
    pub setup: Arc<Setup>,
    /// What is the matter with the source.
    pub trouble: Trouble,
}

macro_rules! worlds {
    ($($name:ident $trouble:ident $text:literal)*) => {
        /// A world by name.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[expect(non_camel_case_types, reason = "the names are those of the reports")]
        enum World { $($name),* }

        const WORLDS: &[(World, &str, Trouble, &str)] =
            &[$((World::$name, stringify!($name), Trouble::$trouble, $text)),*];
    };
}

worlds! {
    one_page_two_readers None "memory 1 pages\nworkers 2\ntask one\n  read 0 -> source\ntask two\n  read 0 -> source\n"
    one_worker None "memory 2 pages\nworkers 1\ntask one\n  read 0 -> source\n  read 1 -> source\ntask two\n  read 0 -> source\n"
    two_pages None "memory 2 pages\nworkers 1\ntask one\n  read 0 -> source\ntask two\n  read 1 -> source\n"
    removed_beside None "memory 2 pages\nworkers 1\ntask guest\n  read 0 -> source\ntask balloon\n  dontneed 1 -> ok\n"
    four_reads None "memory 3 pages\nworkers 2\ntask one\n  read 0 -> source\n  read 1 -> source\n  read 2 -> source\ntask two\n  read 0 -> source\n  read 2 -> source\n"
    read_and_remove None "memory 2 pages\nworkers 2\ntask guest\n  read 0\n  read 1\ntask balloon\n  dontneed 0 -> ok\n  read 0 -> zero\n"
    remove_twice None "memory 1 pages\nworkers 2\ntask guest\n  read 0\n  read 0\ntask balloon\n  dontneed 0 -> ok\n  read 0 -> zero\n  dontneed 0 -> ok\n  read 0 -> zero\n"
    remove_range None "memory 3 pages\nworkers 2\ntask guest\n  read 1\ntask balloon\n  read 2\n  dontneed 0..3 -> ok\n  read 2 -> zero\n"
    lost_install None "memory 1 pages\nworkers 2\ntask guest\n  write 0\n  write 0\n  write 0\ntask balloon\n  dontneed 0 -> ok\n  dontneed 0 -> ok\n"
    unregistered None "memory 1 pages\nworkers 1\ntask guest\n  dontneed 0 -> ok\n  post removed\n  read 0 -> zero\ntask owner\n  await removed\n  unregister 0..1 -> ok\n"
    registered_again None "memory 1 pages\nworkers 1\ntask guest\n  dontneed 0 -> ok\n  post removed\n  read 0 -> zero\ntask owner\n  await removed\n  unregister 0..1 -> ok\n  read 0 -> zero\n  register 0..1 -> ok\n"
    source_fails_once FailsOnce "memory 1 pages\nworkers 1\ntask guest\n  read 0 -> source\n"
    source_short_once ShortOnce "memory 1 pages\nworkers 1\ntask guest\n  read 0 -> source\n"
    source_panics_once PanicsOnce "memory 1 pages\nworkers 1\ntask guest\n  read 0 -> source\n"
    source_panics Panics "memory 1 pages\nworkers 1\ntask guest\n  read 0\nfinally\n  handler failed\n"
    odd_message None "memory 2 pages\nworkers 1\ntask guest\n  read 0\ntask other\n  inject message 119\n  read 1\nfinally\n  handler failed\n"
    interrupted None "memory 2 pages\nworkers 1\nmishaps eintr 2\ntask one\n  read 0 -> source\ntask two\n  read 1 -> source\n"
    no_memory None "memory 1 pages\nworkers 1\nmishaps enomem 2\ntask guest\n  read 0 -> source\n"
    killed None "memory 2 pages\nworkers 2\nmishaps death source-late\ntask guest\n  read 0\n  write 1\ntask balloon\n  dontneed 0 -> ok\n"
    stopped None "memory 3 pages\nworkers 1\nmishaps shutdown\ntask one\n  read 0 -> source\ntask two\n  read 1 -> source\ntask three\n  read 2 -> source\n"
    stopped_amid_changes None "memory 1 pages\nworkers 1\nmishaps eagain shutdown\ntask guest\n  read 0 -> source\n"
    source_waits Waits "memory 2 pages\nworkers 1\ntask guest\n  read 0 -> source\ntask balloon\n  dontneed 1 -> ok\n"
    zeros_saved None "memory 2 pages missing wp\nworkers 2\ntask guest\n  dontneed 0..2 -> ok\n  read 0..2 -> zero\n  write 1 -> ok\n  post rests\ntask control\n  await rests\n  snapshot\n"
    four_gib None "memory 2048 pages hugetlb-private\nworkers 1\ntask guest\n  read 2047 -> source\n  dontneed 0..2048 -> ok\n  read 2047 -> zero\n"
    tail Tail "memory 2 pages\nworkers 1\ntask guest\n  read 0 -> source\n  read 1 -> source\n"
    prefetched Prefetches "memory 3 pages\nworkers 1\ntask one\n  read 1 -> source\n  read 2 -> source\n"
    prefetched_and_removed Prefetches "memory 2 pages\nworkers 1\ntask guest\n  read 1\ntask balloon\n  dontneed 0 -> ok\n  read 0 -> zero\n"
    prefetched_and_stopped Prefetches "memory 3 pages\nworkers 1\nmishaps shutdown\ntask one\n  read 0 -> source\n"
    baseline_cancelled None "memory 2 pages missing wp\nworkers 2\ntask guest\n  write 0 -> ok\n  read 1\n  write 1 -> ok\ntask control\n  baseline cancelled\n  snapshot\n"
    written_and_read None "memory 1 pages missing wp\nworkers 2\ntask guest\n  write 0 -> ok\ntask other\n  read 0\n"
    two_snapshots None "memory 1 pages\nworkers 2\ntask guest\n  write 0\ntask balloon\n  dontneed 0 -> ok\n  post gone\ntask control\n  snapshot\n  await gone\n  snapshot\n"
    two_regions Regions "memory 3 pages\nworkers 2\ntask guest\n  read 2\ntask balloon\n  read 1\n  dontneed 0..3 -> ok\n  read 2 -> zero\n"
    started_again FailsAtFirst "memory 2 pages\nworkers 2\ntask guest\n  read 0 -> source\n  read 1 -> source\n"
    held_up None "memory 2 pages\nworkers 1\nmishaps lull\ntask guest\n  read 0 -> source\ntask balloon\n  dontneed 1 -> ok\n"
    waiters_held_up None "memory 2 pages\nworkers 1\nmishaps lull\npatience busy 3\ntask one\n  read 0 -> source\ntask two\n  read 0 -> source\ntask three\n  read 0 -> source\ntask four\n  read 0 -> source\ntask five\n  read 0 -> source\ntask balloon\n  dontneed 1 -> ok\n"
    source_stuck Stuck "memory 2 pages\nworkers 1\ntask guest\n  read 0 -> source\ntask owner\n  dontneed 1 -> ok\n  write 1 -> ok\n"
    put_off_beside None "memory 5 pages\nworkers 1\npatience starved 2\ntask guest\n  read 0 -> source\ntask one\n  read 1 -> source\ntask two\n  read 2 -> source\ntask three\n  read 3 -> source\ntask balloon\n  dontneed 4 -> ok\n"
    two_clients Regions "memory 6 pages\nworkers 1\npatience starved 2\ntask second\n  read 4 -> source\ntask one\n  read 0 -> source\ntask two\n  read 1 -> source\ntask three\n  read 2 -> source\n"
    source_away Away "memory 1 pages\nworkers 1\nmishaps shutdown\ntask guest\n  read 0 -> source\n"
    end_of_file None "memory 1 pages\nworkers 1\ntask other\n  inject eof\nfinally\n  handler failed\n"
}

fn world_of(flaw: Flaw) -> World {
    match flaw {
        Flaw::EmptyReadFatal | Flaw::EmptyReadRetried => World::one_page_two_readers,
        Flaw::ExistNotWoken => World::registered_again,
        Flaw::ExistEndsWorker => World::one_worker,
        Flaw::BufferReused | Flaw::BufferAliased => World::two_pages,
        Flaw::TailUnchecked => World::tail,
        Flaw::PartialIgnored => World::prefetched,
        Flaw::PrefetchLost | Flaw::PrefetchUnlocked => World::prefetched_and_removed,
        Flaw::PrefetchOutlives => World::prefetched_and_stopped,
        Flaw::ExistFatal => World::one_worker,
        Flaw::BytesShared | Flaw::WakeForgotten | Flaw::WaitUnchecked => World::four_reads,
        Flaw::DeferSilently
        | Flaw::BellEmptied
        | Flaw::SignalBeforePush
        | Flaw::ChangingFatal
        | Flaw::ChangingLost
        | Flaw::FieldAsProgress
        | Flaw::RetryUnderLock
        | Flaw::ServesInline
        | Flaw::LocksCrossed => World::removed_beside,
        Flaw::DecideOutside | Flaw::DeferredDecided | Flaw::NoExclusion | Flaw::FaultsFirst => {
            World::read_and_remove
        }
        Flaw::RequestedForEver | Flaw::RemovesLost | Flaw::FlagsMixed => World::remove_twice,
        Flaw::OneShort => World::remove_range,
        Flaw::RegionSpanned => World::two_regions,
        Flaw::ErrorSticks => World::started_again,
        Flaw::CommitOutside | Flaw::ShortCircuit | Flaw::LateJoin => World::lost_install,
        Flaw::NoEntryFatal => World::unregistered,
        Flaw::SourceErrorFatal => World::source_fails_once,
        Flaw::ShortRead => World::source_short_once,
        Flaw::PanicSwallowed => World::source_panics_once,
        Flaw::PanicRetried => World::source_panics,
        Flaw::FetchUnderLock => World::source_waits,
        Flaw::InterruptFatal => World::interrupted,
        Flaw::NoMemoryFatal => World::no_memory,
        Flaw::DeadFatal => World::killed,
        Flaw::ClosesEarly | Flaw::ClosesAtEnd | Flaw::StopDropsQueue | Flaw::StopMissed => {
            World::stopped
        }
        Flaw::StopDropsDeferred => World::stopped_amid_changes,
        Flaw::BatchDropped => World::odd_message,
        Flaw::EofIgnored => World::end_of_file,
        Flaw::CancelIgnored => World::source_away,
        Flaw::RetriedAtOnce => World::held_up,
        Flaw::EveryFaultQueued => World::waiters_held_up,
        Flaw::PoolShared => World::source_stuck,
        Flaw::NewFirst => World::put_off_beside,
        Flaw::ClientFirst => World::two_clients,
    }
}

/// All worlds.
pub fn all() -> Vec<Place> {
    WORLDS.iter().map(place).collect()
}

/// The world in which `flaw` is to be found.
pub fn of(flaw: Flaw) -> Place {
    let world = world_of(flaw);
    place(WORLDS.iter().find(|entry| entry.0 == world).expect("every world is listed"))
}

/// The world of that name.
pub fn named(name: &str) -> Option<Place> {
    WORLDS.iter().find(|entry| entry.1 == name).map(place)
}

fn place(&(_, name, trouble, text): &(World, &'static str, Trouble, &str)) -> Place {
    let text = format!("faultbed scenario 1\nname {name}\n{text}");
    let setup = scenario::parse(name, &text)
        .unwrap_or_else(|error| panic!("a world of the zoo is malformed: {error}"));
    Place { name, setup: Arc::new(setup), trouble }
}
