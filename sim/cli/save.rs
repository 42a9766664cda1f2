//! Keeping a failure on disk: never half-written, never over another.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use handler::Policy;
use sim::schedule::Schedule;

use crate::exit::Failed;
use crate::report;

/// Put `schedule`, as it was found, into the folder `dir` before anything else is done with it:
/// whoever is killed while shrinking it has not lost it.
pub fn found(dir: &Path, schedule: &Schedule) -> Result<PathBuf, Failed> {
    fs::create_dir_all(dir)
        .map_err(|error| Failed::io(format!("cannot make {}: {error}", dir.display())))?;
    let path = dir.join(format!("{}-{}.found", stem(schedule), schedule.handler));
    replace(&path, &schedule.to_string())?;
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
    let failed =
        |error: std::io::Error| Failed::io(format!("cannot write {}: {error}", path.display()));
    // Two that write the same file at once do not write into each other's.
    let mut part = path.as_os_str().to_owned();
    part.push(format!(".{}.part", std::process::id()));
    let part = PathBuf::from(part);
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(&part)
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&part, path));
    written.map_err(|error| {
        let _ = fs::remove_file(&part);
        failed(error)
    })
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
    for n in 0..10_000u32 {
        let suffix = if n == 0 { String::new() } else { format!("-{n}") };
        let name = format!("{stem}{suffix}.schedule");
        let path = dir.join(name);
        // The same run found again is the same file.
        if fs::read_to_string(&path).is_ok_and(|there| there == text) {
            return Ok(path);
        }
        // Two that find the same thing at once do not write into each other's file.
        let part = path.with_extension(format!("{}.part", std::process::id()));
        match OpenOptions::new().write(true).create(true).truncate(true).open(&part) {
            Ok(mut file) => {
                let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
                // `hard_link` fails where `rename` would replace what is there.
                let linked = written.and_then(|()| fs::hard_link(&part, &path));
                let _ = fs::remove_file(&part);
                match linked {
                    Ok(()) => return Ok(path),
                    Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                        // Somebody was faster. With the same run?
                        if fs::read_to_string(&path).is_ok_and(|there| there == text) {
                            return Ok(path);
                        }
                    }
                    Err(error) => return Err(failed(&path, error)),
                }
            }
            Err(error) => return Err(failed(&part, error)),
        }
    }
    Err(Failed::io(format!("{} holds too many schedules of this name", dir.display())))
}
