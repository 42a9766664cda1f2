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
    // 6,000 walks do not come to everything, and what they did not come to is named.
    let unmet: Vec<&str> = merged.goals.unmet().map(|goal| sim::explore::GOALS[goal]).collect();
    let text = merge(&results).1;
    let named: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("never met: ")).collect();
    assert!(!unmet.is_empty() && named == unmet, "{unmet:?}\n{text}");
    // What nobody came to shrink is named as well.
    let shrunk = files(&dir.join("out"), ".schedule").remove(0);
    std::fs::copy(&shrunk, shrunk.with_extension("found")).unwrap();
    assert!(merge(&results).1.contains("FOUND, not shrunk yet: faultbed shrink "));
    // The same part twice is not two parts.
    assert_eq!(merge(&[results[0].clone(), results[0].clone()]).0, Some(2));
}

#[test]
fn a_campaign_that_is_killed_leaves_whole_files_and_every_failure_it_found() {
    let dir = folder("killed");
    let out = dir.join("out");
    let (mut kept, mut known) = (0, BTreeSet::new());
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
        assert!(findings(&out).is_superset(&known));
        known = findings(&out);
        kept = files(&out, ".schedule").len();
    }
    assert!(kept >= 2, "{kept} failures were kept");
}

/// The results name a failure as soon as it is kept, not when they are written next for the time that
/// has passed, which is every five seconds.
#[test]
fn a_failure_that_is_kept_is_in_the_results_at_once() {
    let dir = folder("at-once");
    let out = dir.join("out");
    let mut explore = explore(&dir, "1/1", "100000000");
    let mut child = explore.arg("lost_install").spawn().expect("the command runs");
    let mut wait_for = |ending: &str| {
        let mut waited = Duration::ZERO;
        while files(&out, ending).is_empty() && waited < Duration::from_secs(60) {
            assert!(child.try_wait().expect("it can be asked").is_none(), "it was to go on");
            pause(Duration::from_millis(5));
            waited += Duration::from_millis(5);
        }
        waited
    };
    wait_for(".schedule");
    let waited = wait_for(".jsonl");
    child.kill().expect("it was running");
    child.wait().expect("it has ended");
    let results = files(&out, ".jsonl").pop().expect("there are results");
    let text = std::fs::read_to_string(results).unwrap();
    assert!(text.lines().any(|line| line.starts_with("{\"failure\":")), "{text}");
    assert!(waited < Duration::from_secs(2), "after {waited:?}");
}

/// Is every file whole, whatever it is called?
fn all_are_whole(dir: &Path) {
    for path in files(dir, "") {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        // Where files can be without a name, what has a name is whole.
        let name = match name.strip_suffix(".part") {
            Some(part) if cfg!(target_os = "linux") => part.rsplit_once('.').unwrap().0.to_owned(),
            Some(_) => continue,
            None => name,
        };
        let text = std::fs::read_to_string(&path).unwrap();
        let cut = || format!("{} is cut short:\n{text}", path.display());
        if name.ends_with(".schedule") || name.ends_with(".found") {
            let schedule = Schedule::parse("killed", &text).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(schedule.to_string(), text, "{}", cut());
        } else if name.ends_with(".jsonl") {
            let mut merged = Merged::default();
            merged.add("killed", &text).unwrap_or_else(|error| panic!("{error}"));
            // What it says that was found is there.
            for (name, _) in merged.scenarios.iter().filter(|(_, sums)| sums.failures > 0) {
                let of = |schedule: Schedule| schedule.setup.name == *name;
                let kept = files(dir, ".schedule").into_iter().chain(files(dir, ".found"));
                let mut kept = kept.map(|path| std::fs::read_to_string(path).unwrap());
                let found = kept.any(|text| Schedule::parse("kept", &text).is_ok_and(of));
                assert!(found, "a failure in {name} was lost");
            }
        } else {
            let ends = [(".html", "</html>"), (".trace.json", "}"), (".rs", "}")];
            let end = ends.iter().find(|(ending, _)| name.ends_with(ending));
            let (_, last) = end.unwrap_or_else(|| panic!("what is {name}?"));
            assert!(text.trim_end().ends_with(last), "{}", cut());
        }
    }
}

/// The failures in a folder, whether they were shrunk already or not: scenario, class, seed, walk.
fn findings(dir: &Path) -> BTreeSet<String> {
    let name = |path: &PathBuf| path.file_stem().unwrap().to_string_lossy().into_owned();
    let shrunk = files(dir, ".schedule").iter().map(name).collect::<Vec<_>>();
    let raw = files(dir, ".found").iter().map(name).collect::<Vec<_>>();
    // Behind the number of the walk is the digest of the schedule.
    let raw = raw.into_iter().map(|name| name.rsplit_once('-').unwrap().0.to_owned());
    shrunk.into_iter().chain(raw).collect()
}

#[test]
fn there_is_no_moment_in_which_a_failure_that_was_found_is_not_on_disk() {
    let dir = folder("moments");
    let out = dir.join("out");
    let mut explore = explore(&dir, "1/1", "400");
    let mut child = explore.arg("lost_install").spawn().expect("the command runs");
    let mut seen = None;
    let mut looks = 0u64;
    loop {
        let over = child.try_wait().expect("it can be asked").is_some();
        match &seen {
            None => {
                seen = files(&out, ".found").pop();
                let kept = files(&out, ".schedule");
                assert!(seen.is_some() || kept.is_empty(), "shrunk before it was kept: {kept:?}");
            }
            // Asked in this order: when the first is gone, the other must be there already.
            Some(found) if !found.exists() => {
                assert!(!files(&out, ".schedule").is_empty(), "gone after {looks} looks");
                break;
            }
            Some(_) => looks += 1,
        }
        assert!(!over, "it ended, and was never seen to find anything");
    }
    assert!(child.wait().expect("it ends").code() == Some(1) && looks > 0);
}

#[test]
fn an_exhaustive_search_that_is_killed_has_kept_what_it_found() {
    let dir = folder("exhaustive");
    let out = dir.join("out");
    // It would go on for minutes: there are more states, and nothing is shrunk before the end.
    let mut child = Command::new(env!("CARGO_BIN_EXE_faultbed"))
        .args(["explore", "two_removers", "--handler", "short-circuit", "--keep-going"])
        .args(["--exhaustive", "--states", "1000000000", "--out", "out", "--jobs", "1"])
        .current_dir(&dir)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the command runs");
    let mut waited = Duration::ZERO;
    while files(&out, ".found").is_empty() && waited < Duration::from_secs(5) {
        pause(Duration::from_millis(10));
        waited += Duration::from_millis(10);
    }
    assert!(child.try_wait().expect("it can be asked").is_none(), "it was to go on");
    child.kill().expect("it was running");
    child.wait().expect("it has ended");
    all_are_whole(&out);
    let found = files(&out, ".found").pop().expect("it has found something and kept it");
    let text = std::fs::read_to_string(found).unwrap();
    assert!(Schedule::parse("found", &text).is_ok_and(|found| found.fails.is_some()));
}

#[test]
fn a_failure_whose_shrunk_schedule_cannot_be_kept_stays_as_it_was_found() {
    let dir = folder("full");
    let out = dir.join("out");
    let run = || {
        let mut explore = explore(&dir, "1/1", "400");
        explore.arg("lost_install").status().expect("the command runs").code()
    };
    assert_eq!(run(), Some(1));
    let kept = files(&out, ".schedule");
    let [kept] = kept.as_slice() else { panic!("one failure: {kept:?}") };
    // Every name that it could have is taken.
    std::fs::write(kept, "another").unwrap();
    let stem = kept.file_stem().unwrap().to_string_lossy().into_owned();
    for n in 1..10_000 {
        std::fs::write(out.join(format!("{stem}-{n}.schedule")), "another").unwrap();
    }
    assert_eq!(run(), Some(4), "it could not be written");
    let found = files(&out, ".found");
    let [found] = found.as_slice() else { panic!("it is there: {found:?}") };
    let text = std::fs::read_to_string(found).unwrap();
    assert!(Schedule::parse("found", &text).is_ok_and(|found| !found.steps.is_empty()));
}

#[test]
fn campaigns_that_differ_in_anything_do_not_write_each_other_s_files() {
    let dir = folder("strangers");
    let out = dir.join("out");
    let others: [&[&str]; 5] = [
        &["lost_install"],
        &["two_removers"],
        &["lost_install", "--profile", "6.6"],
        &["lost_install", "--seed", "2"],
        &["lost_install", "--strategy", "random"],
    ];
    for (count, other) in (1..).zip(others) {
        let status = explore(&dir, "1/1", "320").args(other).status().expect("the command runs");
        assert!(status.code().is_some_and(|code| code < 2), "{other:?}");
        let results = files(&out, ".jsonl");
        assert_eq!(results.len(), count, "{other:?}");
    }
    // They are not parts of one campaign either.
    let texts =
        files(&out, ".jsonl").into_iter().map(|path| std::fs::read_to_string(path).unwrap());
    for (one, other) in texts.clone().zip(texts.skip(1)) {
        let mut merged = Merged::default();
        merged.add("one", &one).unwrap();
        let error = merged.add("other", &other).unwrap_err();
        assert!(error.contains("another campaign"), "{error}");
    }
}

#[test]
fn failures_of_one_name_are_kept_beside_each_other() {
    let dir = folder("namesakes");
    let one = run(Shard::WHOLE).found.remove(0).schedule;
    let mut other = one.clone();
    other.steps.pop();
    let found = [&one, &other, &one].map(|one| faultbed::save::found(&dir, one).unwrap());
    let kept = [&one, &other, &one].map(|one| faultbed::save::schedule(&dir, one).unwrap());
    for paths in [found, kept] {
        assert!(paths[0] != paths[1] && paths[0] == paths[2], "{paths:?}");
        let text = |path: &PathBuf| std::fs::read_to_string(path).unwrap();
        assert_eq!([text(&paths[0]), text(&paths[1])], [one.to_string(), other.to_string()]);
    }
    all_are_whole(&dir);
    assert_eq!(files(&dir, "").len(), 4);
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
