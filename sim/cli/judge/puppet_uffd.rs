//! A userfaultfd of a puppet's process behind the seam: the ioctls and messages spelled out
//! once more, from their published numbers and not from the backend's, so that a mistake of
//! the backend cannot hide. Owns the spelling.

use linux_raw_sys::general as sys;
use shims::linux::puppet::{Act, Answer, Stage};
use shims::{
    Addr, ApiIoctls, ApiReply, ContinueMode, CopyMode, Errno, Event, Fault, FaultFlags, Features,
    Field, Len, MoveMode, Outcome, PoisonMode, RangeIoctls, RegisterModes, Span, Tid, Uffd,
    WriteProtectMode, ZeropageMode,
};

/// Where in the scratch memory the structures of the processes' first threads lie.
const ARGS: u64 = 0;
/// Where their messages are read to.
const MESSAGES: u64 = 4096;
/// Where the bytes of a `COPY` lie.
pub(crate) const PAYLOAD: u64 = 1 << 20;

const UNTOUCHED: i64 = i64::MIN;

/// Used by the thread in `slot`, in whose process its number is `fd`.
pub(crate) struct PuppetUffd<'s> {
    pub(crate) stage: &'s Stage,
    pub(crate) slot: usize,
    pub(crate) fd: u64,
}

/// The words as the bytes of a structure.
pub(crate) fn bytes_of(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

impl PuppetUffd<'_> {
    pub(crate) fn syscall(&self, number: u32, args: [u64; 6]) -> Result<u64, Errno> {
        self.act(Act::Syscall(number, args)).value
    }

    fn act(&self, act: Act) -> Answer {
        self.stage.act(self.slot, act).unwrap_or_else(|stuck| panic!("the handler: {stuck:?}"))
    }

    /// The structure after the call, and what the call returned.
    fn ioctl<const N: usize>(
        &self,
        opcode: u64,
        words: [u64; N],
    ) -> (Result<u64, Errno>, [u64; N]) {
        self.stage.put(ARGS, &bytes_of(&words));
        let at = self.stage.scratch() + ARGS;
        let answer = self.syscall(sys::__NR_ioctl, [self.fd, opcode, at, 0, 0, 0]);
        (answer, core::array::from_fn(|n| self.stage.get(ARGS + 8 * n as u64)))
    }

    fn resolve<const N: usize>(&self, opcode: u64, words: [u64; N]) -> Outcome {
        let (answer, words) = self.ioctl(opcode, words);
        Outcome { errno: answer.err(), field: Field::decode(words[N - 1] as i64, UNTOUCHED) }
    }

    /// `poll` without waiting: the events, if any.
    pub(crate) fn poll(&self) -> u16 {
        self.stage.put(ARGS, &bytes_of(&[self.fd | 1 << 32]));
        let args = [self.stage.scratch() + ARGS, 1, 0, 0, 0, 0];
        self.syscall(sys::__NR_poll, args).expect("poll");
        (self.stage.get(ARGS) >> 48) as u16
    }
}

fn range(span: Span) -> [u64; 2] {
    [span.start.raw(), span.len.bytes()]
}

impl Uffd for PuppetUffd<'_> {
    fn api(&self, features: Features) -> Result<ApiReply, Errno> {
        let (answer, words) = self.ioctl(0xc018_aa3f, [0xaa, features.bits(), 0]);
        answer.map(|_| ApiReply {
            features: Features::from_bits_retain(words[1]),
            ioctls: ApiIoctls::from_bits_retain(words[2]),
        })
    }

    fn register(&self, span: Span, modes: RegisterModes) -> Result<RangeIoctls, Errno> {
        let [start, len] = range(span);
        let (answer, words) = self.ioctl(0xc020_aa00, [start, len, modes.bits(), 0]);
        answer.map(|_| RangeIoctls::from_bits_retain(words[3]))
    }

    fn unregister(&self, span: Span) -> Result<(), Errno> {
        self.ioctl(0x8010_aa01, range(span)).0.map(drop)
    }

    fn read_events(&self, out: &mut Vec<Event>, max: usize) -> Result<usize, Errno> {
        let args = [self.fd, self.stage.scratch() + MESSAGES, 32 * max as u64, 0, 0, 0];
        let count = self.syscall(sys::__NR_read, args)? as usize / 32;
        out.extend((0..count as u64).map(|n| message(self.stage, MESSAGES + 32 * n)));
        Ok(count)
    }

    fn copy(&self, dst: Span, src: &[u8], mode: CopyMode) -> Outcome {
        self.stage.put(PAYLOAD, src);
        let [start, len] = range(dst);
        let src = self.stage.scratch() + PAYLOAD;
        self.resolve(0xc028_aa03, [start, src, len, mode.bits(), UNTOUCHED as u64])
    }

    fn zeropage(&self, span: Span, mode: ZeropageMode) -> Outcome {
        let [start, len] = range(span);
        self.resolve(0xc020_aa04, [start, len, mode.bits(), UNTOUCHED as u64])
    }

    fn continue_(&self, span: Span, mode: ContinueMode) -> Outcome {
        let [start, len] = range(span);
        self.resolve(0xc020_aa07, [start, len, mode.bits(), UNTOUCHED as u64])
    }

    fn write_protect(&self, span: Span, mode: WriteProtectMode) -> Outcome {
        let [start, len] = range(span);
        let (answer, _) = self.ioctl(0xc018_aa06, [start, len, mode.bits()]);
        Outcome { errno: answer.err(), field: Field::Untouched }
    }

    fn move_(&self, dst: Span, src: Addr, mode: MoveMode) -> Outcome {
        let [start, len] = range(dst);
        self.resolve(0xc028_aa05, [start, src.raw(), len, mode.bits(), UNTOUCHED as u64])
    }

    fn poison(&self, span: Span, mode: PoisonMode) -> Outcome {
        let [start, len] = range(span);
        self.resolve(0xc020_aa08, [start, len, mode.bits(), UNTOUCHED as u64])
    }

    fn wake(&self, span: Span) -> Result<(), Errno> {
        self.ioctl(0x8010_aa02, range(span)).0.map(drop)
    }
}

/// The message at that place of the scratch memory.
pub(crate) fn message(stage: &Stage, at: u64) -> Event {
    let [head, a, b, c] = [0, 8, 16, 24].map(|offset| stage.get(at + offset));
    let span = Span::new(Addr::new(a), Len::new(b.wrapping_sub(a)));
    match head & 0xff {
        0x12 => Event::Fault(Fault {
            addr: Addr::new(b),
            flags: FaultFlags::from_bits_retain(a),
            tid: Some(Tid(c as u32)).filter(|tid| tid.0 != 0),
        }),
        0x13 => Event::Fork { fd: a as i32 },
        0x14 => Event::Remap { from: Addr::new(a), to: Addr::new(b), len: c },
        0x15 => Event::Remove(span),
        0x16 => Event::Unmap(span),
        other => Event::Unknown(other as u8),
    }
}
