//! The results of a run as a Markdown table. Owns how they are found and laid out.

use std::path::{Path, PathBuf};

use super::{Bare, Full, Peer, Ranges};

/// How often each row is measured at a size, the implementations in turns. Where an operation
/// takes tens of nanoseconds, what else the machine does weighs most.
pub fn rounds(size: u64) -> usize {
    if size <= 1_000 { 11 } else { 5 }
}

/// Print the medians of the last run, and their ratio to the bare `BTreeMap`: the median of the
/// ratios of the rounds, each of which is of one moment.
pub fn print(rows: &[&str], sizes: &[u64]) {
    println!("\n| operation | N | faultbed ns | BTreeMap ns | rangemap ns | faultbed / BTreeMap |");
    println!("|---|---|---|---|---|---|");
    for row in rows {
        for size in sizes {
            let of = |peer| medians(&format!("{row}_{peer}_{size}"), rounds(*size));
            let (full, bare, ranges) = (of(Full::NAME), of(Bare::NAME), of(Ranges::NAME));
            if full.is_empty() || full.len() != bare.len() {
                continue;
            }
            let ratio = middle(full.iter().zip(&bare).map(|(full, bare)| full / bare).collect());
            let ranges =
                if ranges.is_empty() { "\u{2013}".to_owned() } else { number(middle(ranges)) };
            println!(
                "| {row} | {} | {} | {} | {ranges} | {ratio:.2} |",
                grouped(*size),
                number(middle(full)),
                number(middle(bare))
            );
        }
    }
}

/// The one in the middle.
fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The medians of a benchmark's rounds, as far as criterion has written them down.
fn medians(id: &str, rounds: usize) -> Vec<f64> {
    (0..rounds).map_while(|round| median(&format!("{id}_{round}"))).collect()
}

/// The median of one.
fn median(id: &str) -> Option<f64> {
    let path = home().join("vma").join(id).join("new/estimates.json");
    let estimates: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(path).ok()?).ok()?;
    estimates["median"]["point_estimate"].as_f64()
}

/// Where criterion keeps its results.
fn home() -> PathBuf {
    if let Some(home) = std::env::var_os("CRITERION_HOME") {
        return home.into();
    }
    let target = std::env::var_os("CARGO_TARGET_DIR");
    let target = target.map_or(Path::new(env!("CARGO_MANIFEST_DIR")).join("target"), PathBuf::from);
    target.join("criterion")
}

fn number(ns: f64) -> String {
    if ns < 100.0 { format!("{ns:.1}") } else { grouped(ns.round() as u64) }
}

fn grouped(number: u64) -> String {
    if number < 1000 {
        number.to_string()
    } else {
        format!("{},{:03}", grouped(number / 1000), number % 1000)
    }
}
