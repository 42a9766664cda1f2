//! `faultbed stress`: the default handler survives the running kernel, the one that is
//! wrong on purpose does not, and neither outlives the command. Each test that finds no
//! userfaultfd reports itself as skipped; with `FAULTBED_REQUIRE_KERNEL=1` it fails.
#![cfg(target_os = "linux")]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use shims::Features;
use shims::linux::hugepages::Reservation;
use shims::linux::{Capability, OpenFlags};

/// An image that goes with the test, of words that are neither zero nor alike.
struct Image(PathBuf);

impl Image {
    fn new(test: &str, bytes: u64) -> Image {
        let path = std::env::temp_dir().join(format!("faultbed-{}-{test}", std::process::id()));
        let word = |index: u64| (index | 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_ne_bytes();
        let words = (0..bytes / 8).flat_map(|index| word(2 * index));
        std::fs::write(&path, words.collect::<Vec<u8>>()).unwrap();
        Image(path)
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn stress(image: &Path, options: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_faultbed"))
        .arg("stress")
        .arg(image)
        .args(options)
        .output()
        .unwrap()
}

/// Run with `--json`; the exit code and the report.
fn report(image: &Path, options: &[&str]) -> (Option<i32>, Value) {
    let output = stress(image, &[options, &["--json"]].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    let value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text:?}, {error}"));
    (output.status.code(), value)
}

fn kernel(test: &str) -> bool {
    let features = Features::EVENT_REMOVE | Features::MISSING_HUGETLBFS;
    Capability::gate(test, OpenFlags::empty(), features).is_some()
}

#[test]
fn the_default_handler_survives_writers_and_removers() {
    let test = "the_default_handler_survives_writers_and_removers";
    if !kernel(test) {
        return;
    }
    let image = Image::new(test, 8 << 20);
    let (code, report) = report(&image.0, &["--seconds", "3", "--hot", "16"]);
    assert_eq!(report["verdict"], "clean", "{report}");
    assert_eq!(code, Some(0));
    let at_least = |field: &str, least: u64| {
        assert!(report[field].as_u64().unwrap() >= least, "{field} in {report}");
    };
    // The run did what it is for: faults on pages that had been removed, and removes that
    // met faults.
    at_least("faults", 4000);
    at_least("removes", 300);
    at_least("remove_messages", 300);
    at_least("writes", 1000);
    assert!(report["access_ns"]["p999"].as_u64() >= report["access_ns"]["p50"].as_u64());
}

#[test]
fn huge_pages_are_stressed_too_and_given_back() {
    let test = "huge_pages_are_stressed_too_and_given_back";
    if !kernel(test) || Reservation::gate(test, 16).is_none() {
        return;
    }
    let image = Image::new(test, 32 << 20);
    let options = ["--seconds", "2", "--hot", "4", "--page-size", "2m", "--remove-rate", "200"];
    let (code, report) = report(&image.0, &options);
    assert_eq!((code, &report["verdict"]), (Some(0), &"clean".into()), "{report}");
    assert!(report["faults"].as_u64().unwrap() >= 100, "{report}");
}

#[test]
fn a_handler_that_trusts_its_tracker_hangs_and_the_report_names_page_and_thread() {
    let test = "a_handler_that_trusts_its_tracker_hangs_and_the_report_names_page_and_thread";
    if !kernel(test) {
        return;
    }
    let image = Image::new(test, 8 << 20);
    let options =
        ["--handler", "short-circuit", "--hot", "32", "--patience", "2", "--remove-rate", "4000"];
    let (code, report) = report(&image.0, &options);
    assert_eq!((code, &report["verdict"]), (Some(3), &"hang".into()), "{report}");
    let stuck = &report["stuck"][0];
    assert!(stuck["thread"].as_str().unwrap().starts_with("access-"), "{report}");
    assert!(stuck["tid"].as_u64().unwrap() > 0);
    assert!(stuck["page"].as_u64().unwrap() < 2048);
    assert!(stuck["waited_ms"].as_u64().unwrap() >= 2000);
    assert!(stuck["tracker"].as_str().unwrap().contains("not being served"), "{report}");
    assert_eq!(stuck["present"], false, "the kernel has no page there: {report}");
    assert!(report["short_circuited"].as_u64().unwrap() >= 1);
    // Read by the handler, answered in its view, asleep all the same.
    assert_eq!(report["sleeping"][0], 0, "{report}");
    assert!(report["sleeping"][1].as_u64().unwrap() >= 1, "{report}");
}

#[test]
fn an_image_that_cannot_be_served_is_refused() {
    let image = Image::new("an_image_that_cannot_be_served_is_refused", 8192);
    let refused = |path: &Path, options: &[&str], reason: &str| {
        let output = stress(path, options);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(reason), "{reason:?} expected, not {text:?}");
        assert!(output.stdout.is_empty());
    };
    refused(Path::new("/nonexistent/image"), &[], "/nonexistent/image");
    refused(&image.0, &["--handler", "magic"], "short-circuit");
    refused(&image.0, &["--page-size", "2m"], "2 MiB");
    refused(&image.0, &["--threads", "0"], "--threads");
    File::options().write(true).open(&image.0).unwrap().set_len(4097).unwrap();
    refused(&image.0, &[], "4097");
    File::options().write(true).open(&image.0).unwrap().set_len(0).unwrap();
    refused(&image.0, &[], "empty");
}

#[test]
fn an_image_that_shrinks_ends_the_run_with_an_error() {
    let test = "an_image_that_shrinks_ends_the_run_with_an_error";
    if !kernel(test) {
        return;
    }
    let image = Image::new(test, 64 << 20);
    let path = image.0.clone();
    let (code, report) = std::thread::scope(|scope| {
        let run = scope.spawn(move || report(&path, &["--seconds", "30"]));
        // The run has begun once it has opened the image; whichever moment this meets,
        // most of the image has not been read yet.
        let (_bell, silence) = std::sync::mpsc::channel::<()>();
        let _ = silence.recv_timeout(std::time::Duration::from_millis(300));
        File::options().write(true).open(&image.0).unwrap().set_len(4096).unwrap();
        run.join().unwrap()
    });
    assert_eq!((code, &report["verdict"]), (Some(4), &"failed".into()), "{report}");
    let trouble = report["trouble"].as_str().unwrap();
    assert!(trouble.contains("shrank") || trouble.contains("image has changed"), "{report}");
}
