//! Keeping a failure on disk: never half-written, never over another.

use std::fs;
use std::hash::Hasher as _;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use handler::Policy;
use sim::Digest;
use sim::schedule::Schedule;

use crate::draft::Draft;
use crate::exit::Failed;
use crate::report;

/// Put `schedule`, as it was found, into the folder `dir` before anything else is done with it:
/// whoever is killed while shrinking it has not lost it.
pub fn found(dir: &Path, schedule: &Schedule) -> Result<PathBuf, Failed> {
    fs::create_dir_all(dir)
        .map_err(|error| Failed::io(format!("cannot make {}: {error}", dir.display())))?;
    let text = schedule.to_string();
    // Other strategies and other kernels have walks of the same numbers.
    let mut digest = Digest::new();
    digest.write(text.as_bytes());
    let digest = digest.value();
    let path = dir.join(format!("{}-{digest:016x}.found", stem(schedule)));
    replace(&path, &text)?;
    Ok(path)
}

/// The shrunk one is kept: the one it was made from is not needed any more.
pub fn forget(found: &Path) {
    // If it cannot be removed it does no harm.
    let _ = fs::remove_file(found);
}

/// What the files of `schedule` are called.
fn stem(schedule: &Schedule) -> String {
    let name: String = schedule
        .setup
        .name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
        .collect();
    let class = schedule.fails.as_deref().unwrap_or("run");
    format!("{name}-{class}-{}-{}", schedule.seed, schedule.walk)
}

/// Keep `schedule` in the folder `dir` under a name nobody else uses, and beside it everything
/// that is made of it. The name of the schedule is the answer; it is there before the others.
pub fn failure(dir: &Path, schedule: &Schedule, policy: &Policy) -> Result<PathBuf, Failed> {
    let path = self::schedule(dir, schedule)?;
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or("run").to_owned();
    for (ending, text) in report::files(schedule, policy, &stem) {
        replace(&path.with_extension(ending), &text)?;
    }
    Ok(path)
}

/// Put `text` at `path`, whole or not at all; what was there before goes.
pub fn replace(path: &Path, text: &str) -> Result<(), Failed> {
    let written = Draft::write(path, text).and_then(|draft| draft.replace(path));
    written.map_err(|error| Failed::io(format!("cannot write {}: {error}", path.display())))
}

/// Write `schedule` into the folder `dir`, under a name nobody else uses, and tell the name.
/// The file appears whole or not at all.
pub fn schedule(dir: &Path, schedule: &Schedule) -> Result<PathBuf, Failed> {
    let text = schedule.to_string();
    let failed = |path: &Path, error: std::io::Error| {
        Failed::io(format!("cannot keep the failing schedule in {}: {error}", path.display()))
    };
    fs::create_dir_all(dir).map_err(|error| failed(dir, error))?;
    let stem = stem(schedule);
    let path = |n: u32| {
        let suffix = if n == 0 { String::new() } else { format!("-{n}") };
        dir.join(format!("{stem}{suffix}.schedule"))
    };
    let draft = Draft::write(&path(0), &text).map_err(|error| failed(&path(0), error))?;
    for path in (0..10_000).map(path) {
        match draft.link(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                // The same run found again, or by somebody else, is the same file.
                if fs::read_to_string(&path).is_ok_and(|there| there == text) {
                    return Ok(path);
                }
            }
            Err(error) => return Err(failed(&path, error)),
        }
    }
    Err(Failed::io(format!("{} holds too many schedules of this name", dir.display())))
}
