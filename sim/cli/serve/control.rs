//! The control socket: one command a line, one reply a command. Owns the protocol.
//!
//! A reply is a line, `ok N` or `error MESSAGE`; after `ok N` follow N bytes. A
//! connection may ask any number of times, and several connections may be open.
//!
//! `states` answers with the page-state snapshot as records of nine bytes, sorted by
//! offset, one for each page that is not untouched: a state (`u8`) and the page's offset
//! in the memory file (`u64`, little-endian). Requests in flight are settled first.
//! `states text` answers with the same as lines for people.

use core::fmt;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::Scope;
use std::time::Duration;

use shims::linux::PollWaiter;
use shims::{Waiter, Wakeup};

use super::listen::Listener;

/// Longest line taken.
const MAX_LINE: usize = 4096;
/// Most connections open at once.
const MAX_CONNECTIONS: usize = 16;
/// How often an idle connection looks whether the server ends.
const IDLE: Duration = Duration::from_millis(200);

/// What `help` answers.
pub const HELP: &str = "\
states        the page-state snapshot: 9-byte records {state: u8, offset: u64 little-endian}
states text   the same as lines of text
pause         stop answering faults; they pile up in the kernel
resume        answer them again
stop          end the server
help          this text
";

/// One command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Command {
    /// The snapshot as records.
    States,
    /// The snapshot as text.
    StatesText,
    /// Stop answering faults.
    Pause,
    /// Answer them again.
    Resume,
    /// End the server.
    Stop,
    /// Tell what there is.
    Help,
}

/// Why a command is not carried out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// There is no such command.
    Unknown(String),
    /// No client's memory is being served.
    NoClient,
    /// The server failed and serves no more; the reason.
    Failed(String),
}

/// Whatever carries out the commands.
pub trait Steer: Sync {
    /// Carry `command` out; the bytes are the body of the reply.
    fn carry_out(&self, command: Command) -> Result<Vec<u8>, Refusal>;
}

impl Command {
    /// The command on a line, without its newline.
    pub fn parse(line: &str) -> Result<Command, Refusal> {
        let words: Vec<_> = line.split_ascii_whitespace().collect();
        match words[..] {
            ["states"] => Ok(Command::States),
            ["states", "text"] => Ok(Command::StatesText),
            ["pause"] => Ok(Command::Pause),
            ["resume"] => Ok(Command::Resume),
            ["stop"] => Ok(Command::Stop),
            ["help"] => Ok(Command::Help),
            _ => Err(Refusal::Unknown(line.trim().to_owned())),
        }
    }
}

/// Serve the control socket until `closing` is set and `bell` has been rung. Connections
/// live in threads of `scope`.
pub fn run<'scope>(
    scope: &'scope Scope<'scope, '_>,
    listener: &'scope Listener,
    bell: &'scope PollWaiter<&'scope std::os::unix::net::UnixListener>,
    steer: &'scope dyn Steer,
    closing: &'scope AtomicBool,
    open: &'scope AtomicUsize,
) -> io::Result<()> {
    listener.socket().set_nonblocking(true)?;
    while !closing.load(Ordering::Acquire) {
        let wakeup = bell.wait(None).map_err(|e| io::Error::from_raw_os_error(e.raw()))?;
        if wakeup.contains(Wakeup::ERROR) {
            return Err(io::Error::other("the control socket is broken"));
        }
        let Ok((mut stream, _)) = listener.socket().accept() else { continue };
        if open.fetch_add(1, Ordering::AcqRel) >= MAX_CONNECTIONS {
            let _ = stream.write_all(b"error too many connections\n");
            open.fetch_sub(1, Ordering::AcqRel);
            continue;
        }
        let serve = move || {
            // A connection that breaks ends itself and nothing else.
            let _ = converse(stream, steer, closing);
            open.fetch_sub(1, Ordering::AcqRel);
        };
        std::thread::Builder::new().name("control".into()).spawn_scoped(scope, serve)?;
    }
    Ok(())
}

/// Answer the lines of one connection until it ends.
fn converse(mut stream: UnixStream, steer: &dyn Steer, closing: &AtomicBool) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(IDLE))?;
    // A peer that never reads its replies is not waited for.
    stream.set_write_timeout(Some(Duration::from_secs(10)))?;
    let (mut pending, mut chunk) = (Vec::new(), [0; 512]);
    while !closing.load(Ordering::Acquire) {
        match stream.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(count) => pending.extend_from_slice(&chunk[..count]),
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                continue;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        }
        while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<_> = pending.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line[..end]);
            stream.write_all(&reply(steer, &line))?;
        }
        if pending.len() > MAX_LINE {
            return stream.write_all(b"error the line is too long\n");
        }
    }
    Ok(())
}

/// The reply to one line, ready to send.
fn reply(steer: &dyn Steer, line: &str) -> Vec<u8> {
    let answer = Command::parse(line).and_then(|command| match command {
        Command::Help => Ok(HELP.as_bytes().to_vec()),
        command => steer.carry_out(command),
    });
    match answer {
        Ok(body) => [format!("ok {}\n", body.len()).into_bytes(), body].concat(),
        Err(refusal) => format!("error {refusal}\n").into_bytes(),
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Unknown(line) => {
                write!(f, "no such command: {line:?}; `help` tells which there are")
            }
            Refusal::NoClient => f.write_str("no client is served at the moment"),
            Refusal::Failed(why) => write!(f, "serving has failed: {}", why.replace('\n', " ")),
        }
    }
}

impl core::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::*;

    struct Echo;

    impl Steer for Echo {
        fn carry_out(&self, command: Command) -> Result<Vec<u8>, Refusal> {
            match command {
                Command::States => Ok(vec![1, b'\n', 3]),
                Command::Stop => Err(Refusal::NoClient),
                other => Ok(format!("{other:?}").into_bytes()),
            }
        }
    }

    #[test]
    fn a_reply_tells_its_length_first() {
        assert_eq!(reply(&Echo, "states"), b"ok 3\n\x01\n\x03");
        assert_eq!(reply(&Echo, " states  text\r"), b"ok 10\nStatesText");
        assert_eq!(reply(&Echo, "stop"), b"error no client is served at the moment\n");
        let help = String::from_utf8(reply(&Echo, "help")).unwrap();
        assert_eq!(help, format!("ok {}\n{HELP}", HELP.len()));
        for line in ["", "states binary", "pause now", "STATES", "\u{fffd}"] {
            let text = String::from_utf8(reply(&Echo, line)).unwrap();
            assert!(text.starts_with("error no such command: "), "{text}");
        }
    }

    #[test]
    fn a_connection_asks_several_times_in_one_piece_or_in_many() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let closing = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| converse(ours, &Echo, &closing));
            theirs.write_all(b"pause\nres").unwrap();
            theirs.write_all(b"ume\n").unwrap();
            theirs.shutdown(std::net::Shutdown::Write).unwrap();
            let mut text = String::new();
            theirs.read_to_string(&mut text).unwrap();
            assert_eq!(text, "ok 5\nPauseok 6\nResume");
        });
    }

    #[test]
    fn a_line_without_end_is_cut_off() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let closing = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| converse(ours, &Echo, &closing));
            theirs.write_all(&[b'x'; MAX_LINE + 1]).unwrap();
            let mut text = String::new();
            theirs.read_to_string(&mut text).unwrap();
            assert_eq!(text, "error the line is too long\n");
        });
    }
}
