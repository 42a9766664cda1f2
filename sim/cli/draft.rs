//! A file that is written where nobody looks and gets its name when it is whole: whoever is killed
//! on the way leaves nothing that is half-written. Owns the writing; the names are the caller's.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

/// A whole file, not yet under its name.
pub(crate) struct Draft {
    file: File,
    /// Where it is meanwhile, if it is anywhere.
    part: Option<PathBuf>,
}

impl Draft {
    /// Write `text` for a file that is to be at `path`.
    pub(crate) fn write(path: &Path, text: &str) -> io::Result<Draft> {
        let mut draft = match nameless(path) {
            Some(file) => Draft { file, part: None },
            // Not every file system has files without a name.
            None => {
                let open = |part: &Path| OpenOptions::new().write(true).create_new(true).open(part);
                let (file, part) = unused(path, open)?;
                Draft { file, part: Some(part) }
            }
        };
        draft.file.write_all(text.as_bytes())?;
        draft.file.sync_all()?;
        Ok(draft)
    }

    /// Name it `path`, unless that is taken.
    pub(crate) fn link(&self, path: &Path) -> io::Result<()> {
        match &self.part {
            // `hard_link` fails where `rename` would replace what is there.
            Some(part) => fs::hard_link(part, path),
            None => name(&self.file, path),
        }
    }

    /// Name it `path`; what was there before goes.
    pub(crate) fn replace(mut self, path: &Path) -> io::Result<()> {
        if self.part.is_none() {
            let ((), part) = unused(path, |part| name(&self.file, part))?;
            self.part = Some(part);
        }
        fs::rename(self.part.as_ref().expect("it has a name"), path)?;
        self.part = None;
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Some(part) = &self.part {
            let _ = fs::remove_file(part);
        }
    }
}

/// Do `make` under a name beside `path` that nobody has. Numbers of processes are no names: in
/// containers that share a folder, everybody may be number 1.
fn unused<T>(path: &Path, make: impl Fn(&Path) -> io::Result<T>) -> io::Result<(T, PathBuf)> {
    let mut n = u64::from(std::process::id()) << 16;
    loop {
        let mut part = path.as_os_str().to_owned();
        part.push(format!(".{n:x}.part"));
        let part = PathBuf::from(part);
        match make(&part) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => n += 1,
            made => return made.map(|made| (made, part)),
        }
    }
}

/// A file without a name in the folder of `path`, where there are such files.
#[cfg(target_os = "linux")]
fn nameless(path: &Path) -> Option<File> {
    use rustix::fs::{Mode, OFlags};
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let flags = OFlags::WRONLY | OFlags::TMPFILE | OFlags::CLOEXEC;
    rustix::fs::open(dir, flags, Mode::from_raw_mode(0o666)).ok().map(File::from)
}

#[cfg(target_os = "linux")]
fn name(file: &File, path: &Path) -> io::Result<()> {
    use rustix::fs::{AtFlags, CWD};
    use std::os::fd::AsRawFd as _;
    let proc = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(rustix::fs::linkat(CWD, proc, CWD, path, AtFlags::SYMLINK_FOLLOW)?)
}

#[cfg(not(target_os = "linux"))]
fn nameless(_: &Path) -> Option<File> {
    None
}

#[cfg(not(target_os = "linux"))]
fn name(_: &File, _: &Path) -> io::Result<()> {
    unreachable!("every draft has a name here")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In another container a process may have the number of this one, and write into the same
    /// folder.
    #[test]
    fn a_draft_of_somebody_with_the_same_number_is_left_alone() {
        let dir = std::env::temp_dir().join(format!("faultbed-draft-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a folder");
        let path = dir.join("results.jsonl");
        let number = u64::from(std::process::id()) << 16;
        let theirs = dir.join(format!("results.jsonl.{number:x}.part"));
        fs::write(&theirs, "theirs").expect("it can be written");
        Draft::write(&path, "ours").and_then(|draft| draft.replace(&path)).expect("it is written");
        let read = |path: &Path| fs::read_to_string(path).expect("it is there");
        let came = (read(&path), read(&theirs), fs::read_dir(&dir).expect("a folder").count());
        fs::remove_dir_all(&dir).expect("it can be removed");
        assert_eq!(came, ("ours".to_owned(), "theirs".to_owned(), 2));
    }
}
