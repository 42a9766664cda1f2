//! A process that outlives this one by a moment, to give its huge pages back however it ends:
//! by a signal, by `SIGKILL`, by a panic that is not caught. Owns that process and the pipe by
//! whose end it knows; how many pages there are to give is `hugepages.rs`'s. x86-64 only.
//!
//! The keeper uses raw system calls and its own stack, so a fork of a process with many
//! threads, at any moment, is a keeper that works.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsRawFd;

use linux_raw_sys::general as sys;
use rustix::pipe::PipeFlags;

use super::vma_probe::{raw, result};
use super::{errno, io_errno};
use crate::Errno;

/// Bytes of the number in the pool's file, at most.
const DIGITS: usize = 24;
/// Bytes of a message to the keeper.
const MESSAGE: usize = 16;
const MESSAGE_READ: u64 = MESSAGE as u64;

/// A process that takes pages out of the pool when the other end of its pipe is closed.
#[derive(Debug)]
pub(super) struct Keeper {
    pid: u64,
    /// Closed before the keeper is waited for.
    pipe: Option<File>,
}

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
    /// A keeper without a will for the pool whose size is in `pool`, a file that was opened for
    /// it alone: it locks it.
    pub(super) fn of(pool: &File) -> Result<Keeper, Errno> {
        let (theirs, ours) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(errno)?;
        let fds = [theirs.as_raw_fd() as u64, pool.as_raw_fd() as u64];
        // SAFETY: the child runs `keep`, which never returns and uses neither locks nor the
        // allocator of this process.
        let pid = unsafe { raw(sys::__NR_fork, [0; 6]) };
        if pid == 0 {
            keep(fds);
        }
        Ok(Keeper { pid: result(pid)?, pipe: Some(File::from(ours)) })
    }

    /// Change what it does when it is left alone.
    pub(super) fn will(&mut self, Will { pages, floor }: Will) -> Result<(), Errno> {
        let mut message = [0; MESSAGE];
        message[..8].copy_from_slice(&pages.to_ne_bytes());
        message[8..].copy_from_slice(&floor.to_ne_bytes());
        let mut pipe = self.pipe.as_ref().ok_or(Errno::EPIPE)?;
        pipe.write_all(&message).map_err(|e| io_errno(&e))
    }
}

impl Drop for Keeper {
    /// Leave it alone, and wait until it has done what it was to do.
    fn drop(&mut self) {
        self.pipe = None;
        // SAFETY: reaps the child that `of` has made.
        unsafe { raw(sys::__NR_wait4, [self.pid, 0, 0, 0, 0, 0]) };
    }
}

/// The life of a keeper, with the descriptors of the pipe and the pool.
fn keep([pipe, pool]: [u64; 2]) -> ! {
    const SIG_BLOCK: u64 = 0;
    const LOCK_EX: u64 = 2;
    const EINTR: u64 = (-4_i64) as u64;
    let all = u64::MAX;
    let mut text = [0_u8; DIGITS];
    let mut message = [0_u64; MESSAGE / 8];
    let mut will = [0_u64; MESSAGE / 8];
    let at = &raw mut text as u64;
    let letter = &raw mut message as u64;
    // SAFETY: system calls of a process that is nothing but a keeper. It is in a session of its
    // own and takes no signal that can be blocked, so that what ends the other one spares it. It
    // keeps two descriptors, as 0 and 1, and nobody waits for it to close any other. The kernel
    // writes to `text` and `message`, which live as long as this function.
    unsafe {
        raw(sys::__NR_setsid, [0; 6]);
        raw(sys::__NR_rt_sigprocmask, [SIG_BLOCK, &raw const all as u64, 0, 8, 0, 0]);
        // Moved away first: one of them may be 0 or 1 already.
        let high =
            [pipe, pool].map(|fd| raw(sys::__NR_fcntl, [fd, u64::from(sys::F_DUPFD), 10, 0, 0, 0]));
        raw(sys::__NR_dup2, [high[0], 0, 0, 0, 0, 0]);
        raw(sys::__NR_dup2, [high[1], 1, 0, 0, 0, 0]);
        raw(sys::__NR_close_range, [2, u64::from(u32::MAX), 0, 0, 0, 0]);
        loop {
            match raw(sys::__NR_read, [0, letter, MESSAGE as u64, 0, 0, 0]) {
                EINTR => {}
                // So short a message comes whole or not at all.
                MESSAGE_READ => will = (&raw const message).read_volatile(),
                _ => break,
            }
        }
        let [pages, floor] = will;
        if pages > 0 {
            raw(sys::__NR_flock, [1, LOCK_EX, 0, 0, 0, 0]);
            let count = raw(sys::__NR_pread64, [1, at, DIGITS as u64, 0, 0, 0]);
            let read = (&raw const text).read_volatile();
            let size = number(read.get(..count as usize).unwrap_or_default());
            let left = size.saturating_sub(pages).max(floor);
            let count = digits(left, &mut text);
            if left < size {
                raw(sys::__NR_pwrite64, [1, at, count as u64, 0, 0, 0]);
            }
        }
        loop {
            raw(sys::__NR_exit_group, [0; 6]);
        }
    }
}

/// The number that `text` begins with.
fn number(text: &[u8]) -> u64 {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(0_u64, |sum, byte| {
        sum.wrapping_mul(10).wrapping_add(u64::from(byte.wrapping_sub(b'0')))
    })
}

/// Write `number` to the start of `text`; how many digits it has.
fn digits(number: u64, text: &mut [u8; DIGITS]) -> usize {
    let mut rest = number;
    let mut count = 0_usize;
    for place in text.iter_mut() {
        *place = b'0'.wrapping_add((rest % 10) as u8);
        rest /= 10;
        count = count.wrapping_add(1);
        if rest == 0 {
            break;
        }
    }
    if let Some(written) = text.get_mut(..count) {
        written.reverse();
    }
    count
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Seek as _};

    use super::*;

    #[test]
    fn numbers_are_read_and_written_as_the_pool_has_them() {
        for (text, value) in [("0\n", 0), ("64\n", 64), ("18446744073709551615", u64::MAX)] {
            assert_eq!(number(text.as_bytes()), value);
            let mut written = [0; DIGITS];
            let count = digits(value, &mut written);
            assert_eq!(&written[..count], text.trim_end().as_bytes());
        }
    }

    #[test]
    fn a_keeper_does_its_last_will_when_it_is_left_alone() {
        let memory = rustix::fs::memfd_create("pool", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        let mut pool = File::from(memory);
        for (pages, floor, left) in [(0, 0, 64), (16, 0, 48), (16, 60, 60), (100, 0, 0)] {
            pool.set_len(0).unwrap();
            pool.rewind().unwrap();
            pool.write_all(b"64\n").unwrap();
            let mut keeper = Keeper::of(&pool).unwrap();
            keeper.will(Will { pages: 7, floor: 1 }).unwrap();
            keeper.will(Will { pages, floor }).unwrap();
            drop(keeper);
            let mut text = Vec::new();
            pool.rewind().unwrap();
            pool.read_to_end(&mut text).unwrap();
            // A file of memory keeps what is behind the number.
            let digits = text.len().min(left.to_string().len());
            assert_eq!(number(&text[..digits]), left, "{pages} pages, but for {floor}");
        }
    }
}
