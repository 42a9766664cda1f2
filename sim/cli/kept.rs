//! What is made of a failure that a search has found: shrunk, kept on disk, shown. Owns the
//! order in which that happens: the file is there before anything is printed.

use std::io::Write;
use std::path::{Path, PathBuf};

use handler::Policy;
use sim::schedule::Schedule;
use sim::shrink::{Effort, Shrunk, runs};

use crate::campaign::show;
use crate::exit::Failed;
use crate::explore::shell;
use crate::{save, shrink};

/// A failure on disk.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    /// Where.
    pub(crate) path: PathBuf,
    schedule: Schedule,
    shrunk: Option<Shrunk>,
    /// What shrinking did, in words.
    words: String,
}

impl Kept {
    /// Keep `schedule` as it was found, at once, then shrink it and keep the result in `out`.
    pub(crate) fn keep(schedule: &Schedule, policy: &Policy, out: &Path) -> Result<Kept, Failed> {
        let raw = save::found(out, schedule)?;
        let shrunk = shrink::shrink(schedule, policy, Effort::default());
        let words = shrunk
            .as_ref()
            .map_or_else(|| "not shrunk".to_owned(), |shrunk| shrink::words(schedule, shrunk));
        let schedule = shrunk.as_ref().map_or(schedule, |shrunk| &shrunk.schedule).clone();
        let path = save::failure(out, &schedule, policy)?;
        save::forget(&raw);
        Ok(Kept { path, schedule, shrunk, words })
    }

    /// Draw it, and say how to see it again.
    pub(crate) fn print(&self, out: &mut impl Write, policy: &Policy) {
        let showing = show(&self.schedule, policy.clone());
        let path = shell(&self.path);
        let _ =
            writeln!(out, "{}\n{}\nreplay: faultbed replay {path}", showing.timeline, self.words);
        let _ = writeln!(out, "look:   {}", shell(&self.path.with_extension("html")));
        let _ = writeln!(out, "test:   {}", shell(&self.path.with_extension("rs")));
    }

    /// What a machine wants to know of the shrinking.
    pub(crate) fn as_json(&self) -> serde_json::Value {
        serde_json::json!({
            "runs": runs(&self.schedule.steps).count(),
            "steps": self.schedule.steps.len(),
            "attempts": self.shrunk.as_ref().map(|shrunk| shrunk.attempts),
            "minimal": self.shrunk.as_ref().is_some_and(|shrunk| shrunk.minimal),
            "fewest": self.shrunk.as_ref().is_some_and(|shrunk| shrunk.fewest),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    /// Nothing that happens while a failure is shrunk can lose it. Here shrinking ends at once: no
    /// world can be made of so many threads.
    #[test]
    fn a_failure_is_on_disk_before_it_is_shrunk() {
        let dir = std::env::temp_dir().join(format!("faultbed-kept-{}", std::process::id()));
        let mut setup = crate::catalogue::find("lost_install").expect("it is built in").setup;
        setup.workers = sim::world::MAX_ACTORS;
        let schedule = Schedule {
            handler: "default".to_owned(),
            seed: 1,
            walk: 2,
            fails: Some("hang".to_owned()),
            digest: 3,
            setup,
            steps: Vec::new(),
        };
        let keep = || Kept::keep(&schedule, &Policy::default(), &dir);
        let kept = catch_unwind(AssertUnwindSafe(keep));
        assert!(kept.is_err(), "shrinking was to fail");
        let files = std::fs::read_dir(&dir).expect("there is a folder");
        let names: Vec<_> =
            files.map(|file| file.expect("an entry").path().display().to_string()).collect();
        let _ = std::fs::remove_dir_all(&dir);
        assert!(matches!(&names[..], [found] if found.ends_with(".found")), "{names:?}");
    }
}
