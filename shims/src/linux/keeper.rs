//! A process that outlives this one by a moment, to give its huge pages back however it ends:
//! by a signal, by `SIGKILL`, by a panic that is not caught. Owns that process and the pipe by
//! whose end it knows; how many pages there are to give is `hugepages.rs`'s.
//!
//! The keeper is a shell. A forked copy of this process would share its huge pages until one
//! of the two wrote to them, and then there might be none left for the copy: `SIGBUS`.

use std::io::Write as _;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::io_errno;
use crate::Errno;

/// Read wills, and do the last one; `$0` is the file with the size of the pool. What ends this
/// process spares the shell. A machine without `flock` goes without the lock.
const SCRIPT: &str = r#"
trap '' HUP INT QUIT TERM
pages=0 floor=0
while read -r first second; do pages=$first floor=$second; done
[ "$pages" -gt 0 ] || exit 0
exec 9<>"$0"
flock 9
read -r size <"$0"
left=$((size - pages))
[ "$left" -ge "$floor" ] || left=$floor
[ "$left" -ge "$size" ] || echo "$left" >"$0"
"#;

/// A process that takes pages out of the pool when the other end of its pipe is closed.
#[derive(Debug)]
pub(super) struct Keeper(Child);

/// What a keeper does when it is left alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Will {
    /// How many pages it takes out.
    pub(super) pages: u64,
    /// It leaves as many as these in any case: for the moments in which it cannot know whether
    /// the pages are in the pool.
    pub(super) floor: u64,
}

impl Keeper {
    /// A keeper without a will for the pool whose size is in the file `pool`; none on a machine
    /// without a shell.
    pub(super) fn of(pool: &Path) -> Option<Keeper> {
        let mut shell = Command::new("/bin/sh");
        shell.arg("-c").arg(SCRIPT).arg(pool).process_group(0);
        shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        shell.spawn().ok().map(Keeper)
    }

    /// Change what it does when it is left alone.
    pub(super) fn will(&mut self, Will { pages, floor }: Will) -> Result<(), Errno> {
        let pipe = self.0.stdin.as_mut().ok_or(Errno::EPIPE)?;
        pipe.write_all(format!("{pages} {floor}\n").as_bytes()).map_err(|e| io_errno(&e))
    }
}

impl Drop for Keeper {
    /// Leave it alone, and wait until it has done what it was to do.
    fn drop(&mut self) {
        self.0.stdin = None;
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keeper_does_its_last_will_when_it_is_left_alone() {
        let pool = std::env::temp_dir().join(format!("faultbed-pool-{}", std::process::id()));
        for (pages, floor, left) in
            [(0, 0, "64"), (16, 0, "48"), (16, 60, "60"), (100, 0, "0"), (3, 70, "64")]
        {
            std::fs::write(&pool, "64\n").expect("a file");
            let mut keeper = Keeper::of(&pool).expect("a shell");
            keeper.will(Will { pages: 7, floor: 1 }).expect("a keeper listens");
            keeper.will(Will { pages, floor }).expect("a keeper listens");
            drop(keeper);
            let text = std::fs::read_to_string(&pool).expect("the file");
            assert_eq!(text.trim(), left, "{pages} pages, but for {floor}");
        }
        std::fs::remove_file(&pool).expect("the file");
    }
}
