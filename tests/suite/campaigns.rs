//! Campaigns in parts: shards add up to the whole, and a campaign that is killed has lost nothing.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use faultbed::campaign::{Campaign, Report};
use faultbed::catalogue;
use faultbed::results::Merged;
use faultbed::shard::Shard;
use handler::Policy;
use sim::explore::Strategy;
use sim::schedule::Schedule;

fn run(shard: Shard) -> Report {
    let campaign = Campaign {
        setups: catalogue::all().into_iter().map(|entry| Arc::new(entry.setup)).collect(),
        handler: "short-circuit".to_owned(),
        policy: Policy::short_circuit(),
        seed: 5,
        strategy: Strategy::Portfolio,
        schedules: 12_000,
        jobs: 2,
        shard,
        keep_going: true,
    };
    campaign.run(|_| true)
}

#[test]
fn shards_add_up_to_the_whole() {
    let whole = run(Shard::WHOLE);
    let parts: Vec<Report> = (1..=3).map(|index| run(Shard { index, count: 3 })).collect();
    assert!(parts.iter().all(|part| part.total().schedules > 2_000));
    for (i, tally) in whole.tallies.iter().enumerate() {
        let sum = |of: fn(&Report, usize) -> u64| {
            parts.iter().map(|part| of(part, i)).fold(0, u64::wrapping_add)
        };
        assert_eq!(tally.schedules, sum(|part, i| part.tallies[i].schedules));
        assert_eq!(tally.steps, sum(|part, i| part.tallies[i].steps));
        assert_eq!(tally.failures, sum(|part, i| part.tallies[i].failures));
        assert_eq!(tally.sum, sum(|part, i| part.tallies[i].sum), "the very same walks");
        assert_eq!(tally.longest, parts.iter().map(|part| part.tallies[i].longest).max().unwrap());
    }
    let goals = parts.iter().fold(sim::explore::Goals::default(), |all, one| all.and(one.goals));
    assert_eq!(goals, whole.goals);
}

fn folder(name: &str) -> PathBuf {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).expect("a folder for the test");
    dir
}

fn files(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let mut files: Vec<_> = entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.to_string_lossy().ends_with(ending))
        .collect();
    files.sort();
    files
}

fn explore(dir: &Path, shard: &str, schedules: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_faultbed"));
    command
        .args(["explore", "--handler", "short-circuit", "--keep-going", "--out", "out"])
        .args(["--shard", shard, "--schedules", schedules, "--jobs", "1"])
        .current_dir(dir)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

#[test]
fn merge_adds_up_what_shards_have_written_and_misses_what_is_missing() {
    let dir = folder("merge");
    for shard in ["1/2", "2/2"] {
        let status = explore(&dir, shard, "6000").status().expect("the command runs");
        assert_eq!(status.code(), Some(1));
    }
    let results = files(&dir.join("out"), ".jsonl");
    assert_eq!(results.len(), 2);
    let mut merged = Merged::default();
    for path in &results {
        merged.add("results", &std::fs::read_to_string(path).unwrap()).unwrap();
    }
    assert_eq!(merged.missing(), Vec::<u64>::new());
    assert_eq!(merged.scenarios.values().map(|sums| sums.schedules).sum::<u64>(), 6_000);
    for (_, _, _, schedule) in &merged.failures {
        assert!(dir.join(schedule).exists(), "{schedule}");
    }
    let merge = |paths: &[PathBuf]| {
        let output = Command::new(env!("CARGO_BIN_EXE_faultbed"))
            .arg("merge")
            .args(paths)
            .output()
            .expect("the command runs");
        (output.status.code(), String::from_utf8(output.stdout).expect("UTF-8"))
    };
    assert!(merge(&results).1.contains("2 of 2 shards, 6000 of 6000 schedules"));
    assert!(merge(&results[..1]).1.contains("shard 2: missing"));
    // The same part twice is not two parts.
    assert_eq!(merge(&[results[0].clone(), results[0].clone()]).0, Some(2));
}

#[test]
fn a_campaign_that_is_killed_leaves_whole_files_and_every_failure_it_found() {
    let dir = folder("killed");
    let out = dir.join("out");
    let mut kept = 0;
    for round in 0..4u64 {
        let mut child = explore(&dir, "1/1", "100000000").spawn().expect("the command runs");
        let mut waited = Duration::ZERO;
        // Killed at different moments, each time with at least one more failure on disk.
        while files(&out, ".schedule").len() <= kept.min(5) && waited < Duration::from_secs(60) {
            pause(Duration::from_millis(3 + round));
            waited += Duration::from_millis(3 + round);
        }
        child.kill().expect("it was running");
        child.wait().expect("it has ended");
        all_are_whole(&out);
        for path in files(&out, ".jsonl") {
            let text = std::fs::read_to_string(&path).unwrap();
            let mut merged = Merged::default();
            merged.add("killed", &text).unwrap();
            // It says itself that it is not complete, and what it found is there.
            assert_eq!(merged.missing(), [1]);
            for (_, _, _, schedule) in &merged.failures {
                assert!(dir.join(schedule).exists(), "{schedule}");
            }
        }
        kept = files(&out, ".schedule").len();
    }
    assert!(kept >= 2, "{kept} failures were kept");
}

/// Is every file that has its final name whole?
fn all_are_whole(dir: &Path) {
    for path in files(dir, ".schedule").iter().chain(&files(dir, ".found")) {
        let text = std::fs::read_to_string(path).unwrap();
        let schedule = Schedule::parse("killed", &text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        assert!(!schedule.steps.is_empty(), "{}", path.display());
    }
    for (ending, last) in [(".html", "</html>"), (".trace.json", "}"), (".rs", "}")] {
        for path in files(dir, ending) {
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(text.trim_end().ends_with(last), "{} is cut short", path.display());
        }
    }
    for path in files(dir, ".jsonl") {
        let text = std::fs::read_to_string(&path).unwrap();
        let mut merged = Merged::default();
        merged.add("killed", &text).unwrap_or_else(|error| panic!("{error}"));
    }
}

/// The failures in a folder, whether they were shrunk already or not: scenario, class, seed, walk.
fn findings(dir: &Path) -> BTreeSet<String> {
    let stem = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let name = name.strip_suffix(".schedule").map_or(name.clone(), str::to_owned);
        name.strip_suffix("-short-circuit.found").map_or(name.clone(), str::to_owned)
    };
    files(dir, ".schedule").iter().chain(&files(dir, ".found")).map(stem).collect()
}

/// The most hostile moment: a file that grows beyond the limit kills whoever writes it, with what
/// came before the limit on disk.
#[test]
#[cfg(unix)]
fn a_campaign_that_dies_in_the_middle_of_a_write_leaves_no_part_of_a_file() {
    let (mut died, mut kept) = (0, 0);
    // In blocks of 512 bytes: below the size of a schedule, and of each of the others.
    for limit in [0, 1, 2, 4, 8, 16, 24, 32, 40, 48] {
        let dir = folder("cut");
        let mut explore = explore(&dir, "1/1", "3000");
        explore.arg("lost_install");
        let status = Command::new("sh")
            .args(["-c", "ulimit -f \"$0\" && exec \"$@\"", &limit.to_string()])
            .arg(explore.get_program())
            .args(explore.get_args())
            .current_dir(&dir)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .expect("the shell runs");
        all_are_whole(&dir.join("out"));
        if status.code() != Some(1) {
            died += 1;
            // A file of results that could be written names failures that are there.
            kept += findings(&dir.join("out")).len();
        }
    }
    assert!(died >= 5 && kept >= 3, "{died} died, {kept} failures were kept");
}

#[test]
fn two_campaigns_in_one_folder_that_are_killed_again_and_again_lose_nothing() {
    let dir = folder("twins");
    let out = dir.join("out");
    let mut known = BTreeSet::new();
    for round in 0..10u64 {
        // Two shards, and one of them twice: the same files at the same time.
        let shards = ["1/2", "2/2", "2/2"];
        let start = |shard| {
            let mut explore = explore(&dir, shard, "100000000");
            explore.args(["lost_install", "--seed", &round.to_string()]);
            explore.spawn().expect("the command runs")
        };
        let mut children = shards.map(start);
        for (number, child) in (0u64..).zip(&mut children) {
            // Moments that have nothing to do with what is done in them.
            pause(Duration::from_micros(20_000 + (round * 27_919 + number * 104_729) % 150_000));
            child.kill().expect("it was running");
            child.wait().expect("it has ended");
        }
        all_are_whole(&out);
        let now = findings(&out);
        assert!(now.is_superset(&known), "lost: {:?}", known.difference(&now));
        known = now;
    }
    assert!(known.len() >= 2, "{known:?}");
}

#[expect(clippy::disallowed_methods, reason = "the test waits for another process")]
fn pause(time: Duration) {
    std::thread::sleep(time);
}
