//! What each thing that is done is in a puppet's script: its lines, the structures they point
//! to, and how the answer is read. Owns the layout of the scratch memory of a litmus test.

use std::collections::BTreeMap;

use linux_raw_sys::general as sys;
use shims::linux::puppet::{Act, Answer, Line, Stage};
use shims::{Errno, Field, Outcome, Tid};
use sim::world::BASE;
use sim::{Content, STAMP_LEN};

use super::super::arm::event_text_at;
use super::super::op::{Op, PAGE, Piece, granule};
use super::super::program::{Ask, Doing, Part, Seen, content_text};
use super::super::puppet_ops::{system_call, words};
use super::super::puppet_uffd::message;
use super::NotLitmus;

/// The word at which the tasks meet, and the one that stops them.
pub(super) const MEETING: u64 = 0x100;
pub(super) const STOP: u64 = 0x108;
const SCRIPTS: u64 = 0x1_0000;
const SCRIPT: u64 = 0x8000;
/// Structures, one of 128 bytes for each thing that is done.
const STRUCTS: u64 = 0xa_0000;
const STRUCT: u64 = 0x2000;
/// Messages that were read, 2048 bytes for each thing that is done.
const BUFFERS: u64 = 0x10_0000;
const BUFFER: u64 = 0x2_0000;
/// The source's pages.
const SOURCE: u64 = 0x30_0000;
/// Pages that an arena may have, and things that a task may do.
pub(super) const MAX_PAGES: u64 = 1280;
pub(super) const MAX_OPS: usize = 40;
/// The thread that sets up and looks on is behind the tasks.
pub(super) const MAX_TASKS: usize = 7;

const UNTOUCHED: i64 = i64::MIN;

/// Where the script of a task lies.
pub(super) fn script_at(task: usize) -> u64 {
    SCRIPTS + SCRIPT * task as u64
}

/// What every line is made with.
pub(super) struct Ground<'s> {
    pub(super) stage: &'s Stage,
    pub(super) files: &'s BTreeMap<u8, u64>,
    pub(super) pieces: &'s [Piece],
    /// The userfaultfd's number.
    pub(super) uffd: u64,
    /// A file with a stamp for each task in its first pages.
    pub(super) stamps: u64,
    /// Where the thread of a forked process will be.
    pub(super) child: usize,
}

/// One thing that is done.
pub(super) struct Deed {
    pub(super) lines: Vec<Line>,
    /// What has to be in the scratch memory before, each time.
    pub(super) image: Vec<(u64, Vec<u64>)>,
    tells: Tells,
}

enum Tells {
    Load,
    Plain,
    Fork,
    /// The offset of the field.
    Outcome(Option<u64>),
    Messages(u64),
    Bits(u64),
}

impl Ground<'_> {
    /// Bytes that a script can have.
    pub(super) fn script_len(&self) -> u64 {
        SCRIPT
    }

    /// The source's pages.
    pub(super) fn fill_source(&self, pages: u64) {
        for page in 0..pages {
            let stamp = Content::Source { page: page as u32, version: 0 }.stamp();
            self.stage.put(SOURCE + page * PAGE, &stamp);
        }
    }

    /// `doing` as the `nth` thing of `task`.
    pub(super) fn deed(&self, task: usize, nth: usize, doing: &Doing) -> Result<Deed, NotLitmus> {
        let no =
            |what: String| Err(NotLitmus(format!("a task that goes its own way cannot {what}")));
        let at = |offset: u64| BASE.raw().wrapping_add(offset);
        let plain = |line, tells| Deed { lines: vec![line], image: Vec::new(), tells };
        let call = |number, args| Line::Act(Act::Syscall(number, args));
        match doing {
            Doing::Thread(op) => {
                if let Some((number, args)) = system_call(*op, self.files, true) {
                    return Ok(plain(call(number, args), Tells::Plain));
                }
                match *op {
                    Op::Touch { at: offset, write } => {
                        let page = offset / PAGE;
                        let unit = granule(self.pieces, page);
                        if !offset.is_multiple_of(PAGE) || !page.is_multiple_of(unit) {
                            return no(format!("touch {offset:#x}, which is the start of no page"));
                        }
                        if !write {
                            let act = Act::Load { addr: at(offset), both: false };
                            return Ok(plain(Line::Act(act), Tells::Load));
                        }
                        let word = words(Content::Written { task: task as u16, seq: 0 })[0];
                        Ok(plain(Line::StoreWord { addr: at(offset), word }, Tells::Plain))
                    }
                    Op::UserCopy { at: offset, write } => {
                        let (number, from) = if write {
                            (sys::__NR_pread64, PAGE * task as u64)
                        } else {
                            (sys::__NR_pwrite64, PAGE * (64 + task as u64))
                        };
                        let args = [self.stamps, at(offset), STAMP_LEN as u64, from, 0, 0];
                        Ok(plain(call(number, args), Tells::Plain))
                    }
                    Op::ForkWithFiles => {
                        let fork = Act::Fork(self.child, u64::from(sys::SIGCHLD));
                        Ok(plain(Line::Act(fork), Tells::Fork))
                    }
                    op => no(op.to_string()),
                }
            }
            Doing::Uffd(0, ask) => self.asked(task, nth, *ask),
            doing => no(format!("{doing:?}")),
        }
    }

    fn asked(&self, task: usize, nth: usize, ask: Ask) -> Result<Deed, NotLitmus> {
        let own = STRUCTS + STRUCT * task as u64 + 128 * nth as u64;
        let buffer = BUFFERS + BUFFER * task as u64 + 2048 * nth as u64;
        let scratch = self.stage.scratch();
        let (fd, at) = (self.uffd, |offset: u64| BASE.raw().wrapping_add(offset));
        let call = |number, args| Line::Act(Act::Syscall(number, args));
        let ioctl = |opcode: u64, words: Vec<u64>, field: bool, outcome: bool| {
            let place = own + 8 * (words.len() as u64 - 1);
            let tells = match outcome {
                true => Tells::Outcome(field.then_some(place)),
                false => Tells::Plain,
            };
            let line = call(sys::__NR_ioctl, [fd, opcode, scratch + own, 0, 0, 0]);
            Ok(Deed { lines: vec![line], image: vec![(own, words)], tells })
        };
        let unset = UNTOUCHED as u64;
        match ask {
            Ask::Register(Part { at: start, len }, modes) => {
                ioctl(0xc020_aa00, vec![at(start), len, modes.bits(), 0], false, false)
            }
            Ask::Unregister(Part { at: start, len }) => {
                ioctl(0x8010_aa01, vec![at(start), len], false, false)
            }
            Ask::Wake(Part { at: start, len }) => {
                ioctl(0x8010_aa02, vec![at(start), len], false, false)
            }
            Ask::Copy(Part { at: start, len }, mode) => {
                let src = scratch + SOURCE + start;
                ioctl(0xc028_aa03, vec![at(start), src, len, mode.bits(), unset], true, true)
            }
            Ask::Zeropage(Part { at: start, len }, mode) => {
                ioctl(0xc020_aa04, vec![at(start), len, mode.bits(), unset], true, true)
            }
            Ask::Continue(Part { at: start, len }, mode) => {
                ioctl(0xc020_aa07, vec![at(start), len, mode.bits(), unset], true, true)
            }
            Ask::WriteProtect(Part { at: start, len }, mode) => {
                ioctl(0xc018_aa06, vec![at(start), len, mode.bits()], false, true)
            }
            Ask::Move(Part { at: from, len }, to, mode) => {
                ioctl(0xc028_aa05, vec![at(to), at(from), len, mode.bits(), unset], true, true)
            }
            Ask::Poison(Part { at: start, len }, mode) => {
                ioctl(0xc020_aa08, vec![at(start), len, mode.bits(), unset], true, true)
            }
            Ask::Message => {
                let poll = scratch + own;
                Ok(Deed {
                    lines: vec![
                        Line::SpinPoll { at: poll, tries: 0 },
                        call(sys::__NR_poll, [poll, 1, u64::MAX, 0, 0, 0]),
                        call(sys::__NR_read, [fd, scratch + buffer, 32, 0, 0, 0]),
                    ],
                    image: vec![(own, vec![fd | 1 << 32])],
                    tells: Tells::Messages(buffer),
                })
            }
            Ask::Events(max) => Ok(Deed {
                lines: vec![call(sys::__NR_read, [fd, scratch + buffer, 32 * max as u64, 0, 0, 0])],
                image: Vec::new(),
                tells: Tells::Messages(buffer),
            }),
            Ask::Poll => Ok(Deed {
                lines: vec![call(sys::__NR_poll, [scratch + own, 1, 0, 0, 0, 0])],
                image: vec![(own, vec![fd | 1 << 32])],
                tells: Tells::Bits(own),
            }),
            Ask::Close => Ok(Deed {
                lines: vec![call(sys::__NR_close, [fd, 0, 0, 0, 0, 0])],
                image: Vec::new(),
                tells: Tells::Plain,
            }),
            Ask::Duplicate | Ask::Nonblocking(_) => {
                Err(NotLitmus(format!("a task that goes its own way cannot {ask:?}")))
            }
        }
    }
}

impl Deed {
    /// What came of it, by the answer of its last line.
    pub(super) fn seen(
        &self,
        stage: &Stage,
        answer: &Answer,
        who: &dyn Fn(Tid) -> Option<usize>,
    ) -> Seen {
        if let Some(raised) = answer.signal {
            return match (raised.number, raised.code) {
                (11, 1) => Seen::MapErr,
                (11, 2) => Seen::AccErr,
                _ => Seen::Bus,
            };
        }
        match (&self.tells, answer.value) {
            (Tells::Load, Ok(word)) => {
                let mut bytes = [0; PAGE as usize];
                bytes[..8].copy_from_slice(&word.to_ne_bytes());
                Seen::Loaded(content_text(Content::of_bytes(&bytes)))
            }
            (Tells::Outcome(field), value) => {
                let field = field
                    .map_or(Field::Untouched, |at| Field::decode(stage.get(at) as i64, UNTOUCHED));
                Seen::Outcome(Outcome { errno: value.err(), field })
            }
            (Tells::Messages(at), Ok(bytes)) => {
                let text = |n| event_text_at(BASE, who, &message(stage, at + 32 * n));
                Seen::Messages((0..bytes / 32).map(text).collect())
            }
            (Tells::Messages(_), Err(Errno::EAGAIN)) => Seen::Messages(Vec::new()),
            (Tells::Bits(at), Ok(_)) => Seen::Bits((stage.get(*at) >> 48) as u16),
            (Tells::Plain | Tells::Fork, Ok(_)) => Seen::Done,
            (_, Err(errno)) => Seen::Err(errno),
        }
    }

    /// Does it make a process?
    pub(super) fn forks(&self) -> bool {
        matches!(self.tells, Tells::Fork)
    }
}
