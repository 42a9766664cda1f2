//! The results of a run as a Markdown table. Owns how they are found and laid out.

use std::path::{Path, PathBuf};

use super::{Bare, Full, Peer, Ranges};

/// Print the medians of the last run, and their ratio to the bare `BTreeMap`.
pub fn print(rows: &[&str], sizes: &[u64]) {
    println!("\n| operation | N | faultbed ns | BTreeMap ns | rangemap ns | faultbed / BTreeMap |");
    println!("|---|---|---|---|---|---|");
    for row in rows {
        for size in sizes {
            let of = |peer| median(&format!("{row}_{peer}_{size}"));
            let (full, bare, ranges) = (of(Full::NAME), of(Bare::NAME), of(Ranges::NAME));
            let (Some(full), Some(bare)) = (full, bare) else { continue };
            let ranges = ranges.map_or("\u{2013}".to_owned(), number);
            let ratio = full / bare;
            println!(
                "| {row} | {} | {} | {} | {ranges} | {ratio:.2} |",
                grouped(*size),
                number(full),
                number(bare)
            );
        }
    }
}

/// The median of a benchmark, if criterion has written one down.
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
