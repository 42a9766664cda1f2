//! Keeping a failure on disk: never half-written, never over another.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use sim::schedule::Schedule;

use crate::exit::Failed;

/// Write `schedule` into the folder `dir`, under a name nobody else uses, and tell the name.
/// The file appears whole or not at all.
pub fn schedule(dir: &Path, schedule: &Schedule) -> Result<PathBuf, Failed> {
    let text = schedule.to_string();
    let failed = |path: &Path, error: std::io::Error| {
        Failed::io(format!("cannot keep the failing schedule in {}: {error}", path.display()))
    };
    fs::create_dir_all(dir).map_err(|error| failed(dir, error))?;
    let stem: String = schedule
        .setup
        .name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
        .collect();
    let class = schedule.fails.as_deref().unwrap_or("run");
    for n in 0..10_000u32 {
        let suffix = if n == 0 { String::new() } else { format!("-{n}") };
        let name = format!("{stem}-{class}-{}-{}{suffix}.schedule", schedule.seed, schedule.walk);
        let path = dir.join(name);
        // The same run found again is the same file.
        if fs::read_to_string(&path).is_ok_and(|there| there == text) {
            return Ok(path);
        }
        let part = path.with_extension("schedule.part");
        match OpenOptions::new().write(true).create_new(true).open(&part) {
            Ok(mut file) => {
                let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
                // `hard_link` fails where `rename` would replace what is there.
                let linked = written.and_then(|()| fs::hard_link(&part, &path));
                let _ = fs::remove_file(&part);
                match linked {
                    Ok(()) => return Ok(path),
                    Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                    Err(error) => return Err(failed(&path, error)),
                }
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed(&part, error)),
        }
    }
    Err(Failed::io(format!("{} holds too many schedules of this name", dir.display())))
}
