//! A process that outlives this one by a moment: it adds huge pages to the pool, and takes them
//! out again when this one ends, however it ends: by a signal, by `SIGKILL`, by a panic that is
//! not caught. Owns that process and the pipes to it; who wants pages, and how many, is
//! `hugepages.rs`'s.
//!
//! The keeper is a shell. A forked copy of this process would share its huge pages until one
//! of the two wrote to them, and then there might be none left for the copy: `SIGBUS`. It adds
//! the pages itself, so that there is no moment in which it does not know whether they are there.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::io_errno;
use crate::Errno;

/// Add `$1` pages to the pool whose size is in the file `$0`, say how many there were to be had,
/// and take those out at the end of the input, or when told to. What ends this process spares the
/// shell. A machine without `flock` goes without the lock.
///
/// A pool that shrinks while its pages are freed keeps free ones that it calls surplus; those go
/// only if they are made ordinary ones first.
const SCRIPT: &str = r#"
trap '' HUP INT QUIT TERM PIPE
folder=${0%/*}
read_number() { number=0; read -r number <"$1" || [ "$number" ] || number=0; }

exec 9<>"$0"
flock 9
read_number "$0"; before=$number
echo $((before + $1)) >"$0"
read_number "$0"; taken=$((number - before))
flock -u 9
[ "$taken" -ge 0 ] || taken=0
echo "$taken"

while read -r word && [ "$word" != end ]; do :; done

[ "$taken" -gt 0 ] || exit 0
flock 9
read_number "$0"; left=$((number - taken))
[ "$left" -ge 0 ] || left=0
echo "$left" >"$0"
tries=0
while [ "$tries" -lt 100 ]; do
  read_number "$0"; size=$number
  read_number "$folder/free_hugepages"; free=$number
  read_number "$folder/resv_hugepages"; promised=$number
  [ "$size" -gt "$left" ] && [ "$free" -gt "$promised" ] || exit 0
  echo "$size" >"$0"
  echo "$left" >"$0"
  tries=$((tries + 1))
done
"#;

/// A process that takes pages out of the pool when this one ends, or when it is dropped.
#[derive(Debug)]
pub(super) struct Keeper {
    shell: Child,
    taken: u64,
}

impl Keeper {
    /// Add `pages` pages, or as many as there are, to the pool whose size is in the file `pool`.
    pub(super) fn take(pool: &Path, pages: u64) -> Result<Keeper, Errno> {
        let mut shell = Command::new("/bin/sh");
        shell.arg("-c").arg(SCRIPT).arg(pool).arg(pages.to_string()).process_group(0);
        shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut keeper = Keeper { shell: shell.spawn().map_err(|e| io_errno(&e))?, taken: 0 };
        let answer = keeper.shell.stdout.take().ok_or(Errno::EPIPE)?;
        let mut line = String::new();
        BufReader::new(answer).read_line(&mut line).map_err(|e| io_errno(&e))?;
        keeper.taken = line.trim().parse().map_err(|_| Errno::EIO)?;
        Ok(keeper)
    }

    /// How many pages it has added.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }
}

impl Drop for Keeper {
    /// Have it take them out, and wait until it has.
    fn drop(&mut self) {
        // A child of this process may have the other end of the pipe as well: closing this one
        // need not be enough. A keeper that somebody has killed listens to nothing.
        if let Some(mut pipe) = self.shell.stdin.take() {
            let _ = pipe.write_all(b"end\n");
        }
        let _ = self.shell.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with the files of a pool of 64 pages, none of which is free.
    fn pool(name: &str) -> std::path::PathBuf {
        let folder = format!("faultbed-pool-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(folder);
        std::fs::create_dir_all(&folder).expect("a folder");
        let pool = folder.join("nr_hugepages");
        std::fs::write(&pool, "64\n").expect("a file");
        pool
    }

    fn size(pool: &Path) -> String {
        std::fs::read_to_string(pool).expect("the file").trim().to_owned()
    }

    #[test]
    fn a_keeper_takes_out_what_it_has_added() {
        let pool = pool("taken");
        let first = Keeper::take(&pool, 16).expect("a shell");
        assert_eq!((first.taken(), size(&pool).as_str()), (16, "80"));
        let second = Keeper::take(&pool, 4).expect("a shell");
        assert_eq!((second.taken(), size(&pool).as_str()), (4, "84"));
        drop(first);
        assert_eq!(size(&pool), "68");
        // Somebody else has taken pages out.
        std::fs::write(&pool, "3\n").expect("a file");
        drop(second);
        assert_eq!(size(&pool), "0");
        std::fs::remove_dir_all(pool.parent().expect("a folder")).expect("the folder");
    }

    #[test]
    fn a_keeper_that_is_left_alone_takes_them_out_as_well() {
        let pool = pool("alone");
        let mut keeper = Keeper::take(&pool, 16).expect("a shell");
        assert_eq!(size(&pool), "80");
        keeper.shell.stdin = None;
        keeper.shell.wait().expect("it ends");
        assert_eq!(size(&pool), "64");
        std::fs::remove_dir_all(pool.parent().expect("a folder")).expect("the folder");
    }
}
