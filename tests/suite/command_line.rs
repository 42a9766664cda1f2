//! The `faultbed` command as a person types it: exit codes, messages, files.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn faultbed(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_faultbed"))
        .args(args)
        .current_dir(dir)
        .output()
        .expect("the command runs")
}

/// An empty folder of this test alone.
fn folder(name: &str) -> PathBuf {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).expect("a folder for the test");
    dir
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("the command writes UTF-8")
}

#[test]
fn explore_finds_draws_and_keeps_what_replay_repeats_byte_for_byte() {
    let dir = folder("explore_replay");
    let found = faultbed(&dir, &["explore", "--handler", "short-circuit"]);
    assert_eq!(found.status.code(), Some(1));
    let out = text(&found.stdout);
    let command = out.lines().find_map(|line| line.strip_prefix("replay: faultbed ")).unwrap();
    let args: Vec<_> = command.split(' ').collect();
    let again = faultbed(&dir, &args);
    assert_eq!(again.status.code(), Some(1));
    assert!(out.contains(&text(&again.stdout)), "the timeline is the one explore printed");
    for word in ["zap page", "HANG", "the handler took the fault and never woke it"] {
        assert!(text(&again.stdout).contains(word), "{word}");
    }
    // The same seed finds the same thing and does not litter.
    let twice = faultbed(&dir, &["explore", "--handler", "short-circuit"]);
    assert_eq!(without_rates(&text(&twice.stdout)), without_rates(&out));
    let mut endings: Vec<_> = std::fs::read_dir(dir.join("faultbed-failures"))
        .unwrap()
        .map(|entry| text(entry.unwrap().file_name().as_encoded_bytes()))
        .map(|name| name.split_once('.').expect("every file has an ending").1.to_owned())
        .collect();
    endings.sort();
    assert_eq!(endings, ["html", "rs", "schedule", "trace.json"]);
    // The handler that asks the kernel survives the same schedule.
    let mut cured = args.clone();
    cured.extend(["--handler", "default"]);
    assert_eq!(faultbed(&dir, &cured).status.code(), Some(0));
}

fn without_rates(out: &str) -> String {
    out.lines().filter(|line| !line.contains("steps/s")).collect::<Vec<_>>().join("\n")
}

#[test]
fn explore_says_what_it_did_in_json_too() {
    let dir = folder("explore_json");
    let out = faultbed(&dir, &["explore", "stale_source", "--schedules", "200", "--json"]);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    let json: serde_json::Value = serde_json::from_slice(&out.stdout).expect("JSON");
    assert_eq!(json["schedules"], 200);
    assert_eq!(json["failures"], serde_json::json!([]));
}

#[test]
fn a_malformed_file_is_refused_with_its_place_and_exit_code_2() {
    let dir = folder("malformed");
    std::fs::write(
        dir.join("bad.fbs"),
        "faultbed scenario 1\nname x\nmemory 2 pages\ntask a\n  raed 1\n",
    )
    .unwrap();
    let out = faultbed(&dir, &["explore", "bad.fbs"]);
    assert_eq!(out.status.code(), Some(2));
    let message = text(&out.stderr);
    assert!(
        message.starts_with("faultbed: bad.fbs:5:3: expected an operation (read, "),
        "{message}"
    );
    std::fs::write(dir.join("bad.schedule"), "faultbed schedule 1\nhandler default\n").unwrap();
    let out = faultbed(&dir, &["replay", "bad.schedule"]);
    assert_eq!(out.status.code(), Some(2));
    assert!(text(&out.stderr).contains("bad.schedule:2:1: expected a line `== scenario ==`"));
    for args in [
        &["explore", "no_such_scenario"][..],
        &["explore", "--handler", "nobody"],
        &["replay", "no_such_file"],
        &["explore", "--schedules", "many"],
        &[],
    ] {
        let out = faultbed(&dir, args);
        assert_eq!(out.status.code(), Some(2), "{args:?}");
        assert!(!out.stderr.is_empty(), "{args:?}");
    }
}

#[test]
fn a_goal_that_is_never_met_fails_a_campaign_that_requires_them() {
    let dir = folder("goals");
    let one = ["explore", "missing_read_first", "--schedules", "100"];
    assert_eq!(faultbed(&dir, &one).status.code(), Some(0));
    let required = [&one[..], &["--require-goals"]].concat();
    let unmet = faultbed(&dir, &required);
    assert_eq!(unmet.status.code(), Some(1));
    let out = text(&unmet.stdout);
    for goal in ["a zap wipes a page", "(ESRCH)", "removed becomes zero"] {
        assert!(out.lines().any(|line| line.starts_with("never met: ") && line.contains(goal)));
    }
    assert!(!out.contains("never met: missing becomes clean"), "{out}");
}

#[test]
fn a_scenario_that_an_old_kernel_cannot_run_is_refused_by_name() {
    let dir = folder("old-kernel");
    for command in ["explore", "run"] {
        let args: &[&str] = match command {
            "run" => &["run", "minor_filled", "--backend", "sim", "--profile", "5.7"],
            _ => &["explore", "minor_filled", "--profile", "5.7"],
        };
        let out = faultbed(&dir, args);
        assert_eq!(out.status.code(), Some(2), "{command}");
        let said = text(&out.stderr);
        assert!(said.contains("does not run on 5.7") && !said.contains("panicked"), "{said}");
    }
    let out = faultbed(&dir, &["explore", "lost_install", "--schedules", "50", "--profile", "5.7"]);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
}

/// `faultbed ... | head`: whoever reads has gone away. Nobody panics or complains, and what a command
/// leaves on disk is whole.
#[test]
fn a_command_that_nobody_listens_to_ends_quietly() {
    let dir = folder("unheard");
    let commands: &[&[&str]] = &[
        &["explore", "--list"],
        &["explore", "lost_install", "--schedules", "50"],
        &["explore", "lost_install", "--schedules", "50", "--json"],
        &["explore", "lost_install", "--handler", "short-circuit", "--out", "text"],
        &["explore", "lost_install", "--handler", "short-circuit", "--out", "json", "--json"],
        &["explore", "missing_read_first", "--exhaustive"],
        &["explore", "missing_read_first", "--exhaustive", "--json"],
        &["replay", "b1.schedule"],
        &["replay", "b1.schedule", "--report"],
        &["replay", "b1.schedule", "--json"],
        &["shrink", "b1.schedule"],
        &["shrink", "b1.schedule", "--json"],
        &["merge", "results.jsonl"],
        &["merge", "results.jsonl", "--json"],
        &["zoo", "--list"],
        &["zoo", "batch-dropped", "--seeds", "1", "--right", "1"],
        &["zoo", "batch-dropped", "--seeds", "1", "--right", "1", "--json"],
        &["check", "script.fbs"],
        &["run", "script.fbs", "--backend", "sim", "--transcript"],
        &["run", "lost_install", "--backend", "sim", "--runs", "1"],
        &["litmus", "--list"],
        &["litmus", "zap_window_present", "--backend", "sim"],
    ];
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let b1 = root.join("docs/gallery/b1-lost-install.schedule");
    std::fs::copy(b1, dir.join("b1.schedule")).unwrap();
    std::fs::copy(root.join("docs/examples/anon.fbs"), dir.join("script.fbs")).unwrap();
    let shard = ["explore", "lost_install", "--schedules", "32", "--shard", "1/1", "--out", "."];
    assert!(faultbed(&dir, &shard).status.success());
    let results = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path());
    let mut results = results.filter(|path| path.extension().is_some_and(|end| end == "jsonl"));
    std::fs::rename(results.next().unwrap(), dir.join("results.jsonl")).unwrap();
    for args in commands {
        // As soon as it says anything, there is nobody.
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let command = || {
            let mut command = Command::new(env!("CARGO_BIN_EXE_faultbed"));
            command.args(*args).current_dir(&dir);
            command
        };
        let out = command().stdout(writer.try_clone().unwrap()).output().unwrap();
        assert_eq!((out.status.code(), text(&out.stderr)), (Some(141), String::new()), "{args:?}");
        // Nobody hears complaints either.
        let status = command().stdout(writer.try_clone().unwrap()).stderr(writer).status();
        assert_eq!(status.unwrap().code(), Some(141), "{args:?}");
    }
    for out in ["text", "json"] {
        let names = std::fs::read_dir(dir.join(out)).unwrap().map(|entry| entry.unwrap());
        let mut endings: Vec<_> = names
            .map(|entry| text(entry.file_name().as_encoded_bytes()))
            .map(|name| name.split_once('.').expect("every file has an ending").1.to_owned())
            .collect();
        endings.sort();
        assert_eq!(endings, ["html", "rs", "schedule", "trace.json"]);
    }
    // What is said about a wrong command is lost, and the exit code is not.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut wrong = Command::new(env!("CARGO_BIN_EXE_faultbed"));
    wrong.args(["replay", "no_such_file"]).current_dir(&dir).stderr(writer);
    assert_eq!(wrong.status().unwrap().code(), Some(2));
}

/// A full disk is not a reader who has gone away: it is said.
#[test]
#[cfg(target_os = "linux")]
fn output_that_cannot_be_written_is_an_error() {
    let dir = folder("full-output");
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_faultbed"));
    let out = command.args(["explore", "--list"]).current_dir(&dir).stdout(full).output().unwrap();
    assert_eq!(out.status.code(), Some(4));
    let said = text(&out.stderr);
    assert!(said.starts_with("faultbed: cannot write to standard output: "), "{said}");
}
