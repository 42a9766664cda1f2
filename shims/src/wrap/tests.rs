//! The decorators over a userfaultfd small enough to see through.

use std::sync::Mutex;

use super::*;
use crate::{
    Addr, ApiIoctls, ApiReply, ContinueMode, CopyMode, Errno, Event, Fault, FaultFlags, Features,
    Len, MoveMode, Outcome, PoisonMode, RangeIoctls, RegisterModes, Span, Tid, Uffd,
    WriteProtectMode, ZeropageMode,
};

/// Four pages from address 0x1000 and a queue of messages.
struct Fake {
    queue: Mutex<Vec<Event>>,
    present: Mutex<[bool; 4]>,
}

impl Fake {
    fn new(queue: impl Into<Vec<Event>>) -> Fake {
        Fake { queue: Mutex::new(queue.into()), present: Mutex::new([false; 4]) }
    }

    /// Install page by page, as the kernel does.
    fn install(&self, range: Span) -> Outcome {
        let mut present = lock(&self.present);
        let first = (range.start.raw() / PAGE) as usize - 1;
        for done in 0..range.len.bytes() / PAGE {
            let page = &mut present[first + done as usize];
            if core::mem::replace(page, true) {
                return match done {
                    0 => Outcome::mirrored(Errno::EEXIST),
                    done => Outcome::partial(done * PAGE),
                };
            }
        }
        Outcome::done(range.len.bytes())
    }
}

impl Uffd for Fake {
    fn api(&self, _: Features) -> Result<ApiReply, Errno> {
        let ioctls = ApiIoctls::API | ApiIoctls::REGISTER;
        Ok(ApiReply { features: Features::EVENT_REMOVE | Features::MOVE, ioctls })
    }
    fn register(&self, _: Span, _: RegisterModes) -> Result<RangeIoctls, Errno> {
        Ok(RangeIoctls::COPY | RangeIoctls::WAKE)
    }
    fn unregister(&self, _: Span) -> Result<(), Errno> {
        Err(Errno::ENOMEM)
    }
    fn read_events(&self, out: &mut Vec<Event>, max: usize) -> Result<usize, Errno> {
        let mut queue = lock(&self.queue);
        let count = queue.len().min(max);
        if max == 0 {
            return Err(Errno::EINVAL);
        }
        out.extend(queue.drain(..count));
        if count == 0 { Err(Errno::EAGAIN) } else { Ok(count) }
    }
    fn copy(&self, dst: Span, _: &[u8], _: CopyMode) -> Outcome {
        self.install(dst)
    }
    fn zeropage(&self, range: Span, _: ZeropageMode) -> Outcome {
        self.install(range)
    }
    fn continue_(&self, range: Span, _: ContinueMode) -> Outcome {
        self.install(range)
    }
    fn write_protect(&self, _: Span, _: WriteProtectMode) -> Outcome {
        Outcome::OK
    }
    fn move_(&self, dst: Span, _: Addr, _: MoveMode) -> Outcome {
        self.install(dst)
    }
    fn poison(&self, _: Span, _: PoisonMode) -> Outcome {
        Outcome::bare(Errno::ESRCH)
    }
    fn wake(&self, _: Span) -> Result<(), Errno> {
        Ok(())
    }
}

const PAGE: u64 = 4096;

fn pages(first: u64, count: u64) -> Span {
    Span::new(Addr::new((first + 1) * PAGE), Len::new(count * PAGE))
}

fn fault(page: u64) -> Event {
    let (addr, tid) = (pages(page, 1).start, Some(Tid(7)));
    Event::Fault(Fault { addr, flags: FaultFlags::WRITE, tid })
}

/// One of each call; `fill` is what the pages are filled with.
fn run(uffd: &impl Uffd, fill: u8) -> Vec<Event> {
    let mut events = Vec::new();
    let image = [fill; 4 * PAGE as usize];
    let _ = uffd.api(Features::EVENT_REMOVE);
    let _ = uffd.register(pages(0, 4), RegisterModes::MISSING);
    let _ = uffd.read_events(&mut events, 16);
    let _ = uffd.read_events(&mut events, 16);
    let _ = uffd.copy(pages(1, 1), &image, CopyMode::DONTWAKE);
    let _ = uffd.copy(pages(0, 2), &image, CopyMode::empty());
    let _ = uffd.zeropage(pages(1, 1), ZeropageMode::empty());
    let _ = uffd.continue_(pages(2, 1), ContinueMode::WP);
    let _ = uffd.write_protect(pages(2, 1), WriteProtectMode::WP);
    let _ = uffd.move_(pages(3, 1), Addr::new(0x9000), MoveMode::ALLOW_SRC_HOLES);
    let _ = uffd.poison(pages(3, 1), PoisonMode::empty());
    let _ = uffd.wake(pages(0, 4));
    let _ = uffd.unregister(pages(0, 4));
    events
}

fn queue() -> Vec<Event> {
    vec![fault(1), Event::Remove(pages(2, 2))]
}

const TEXT: &str = "\
api EVENT_REMOVE -> has EVENT_REMOVE | MOVE; knows REGISTER | API
register 0x1000..0x5000 MISSING -> admits WAKE | COPY
read 16 -> MISSING write at 0x2000 by thread 7; REMOVE 0x3000..0x5000
read 16 -> EAGAIN
copy 0x2000..0x3000 DONTWAKE #5907bda7365b3d36 -> ok [4096]
copy 0x1000..0x3000 - #7f45c669b6b98eed -> EAGAIN [4096]
zeropage 0x2000..0x3000 - -> EEXIST [-17]
continue 0x3000..0x4000 WP -> ok [4096]
writeprotect 0x3000..0x4000 WP -> ok
move 0x4000..0x5000 from 0x9000 ALLOW_SRC_HOLES -> ok [4096]
poison 0x4000..0x5000 - -> ESRCH
wake 0x1000..0x5000 -> ok
unregister 0x1000..0x5000 -> ENOMEM
";

#[test]
fn a_record_reads_as_one_line_a_call() {
    let tap = Tap::new(Fake::new(queue()), Record::new());
    assert_eq!(run(&tap, 1), queue());
    assert_eq!(tap.observer().to_string(), TEXT);
    assert_eq!(tap.observer().take().len(), 13);
    assert_eq!(tap.observer().entries(), []);
}

#[test]
fn an_audit_tells_runs_apart_by_a_byte_and_by_an_answer() {
    let audit = |queue: &[Event], fill| {
        let tap = Tap::new(Fake::new(queue), Audit::new());
        run(&tap, fill);
        tap.observer().value()
    };
    let one = audit(&queue(), 1);
    assert_eq!(one, audit(&queue(), 1));
    assert_ne!(one, audit(&queue(), 2), "another byte in a page");
    assert_ne!(one, audit(&queue()[..1], 1), "one message fewer");
    // The hash is of the text, so it is the same in every build.
    let mut text = Fnv::new();
    text.update(TEXT.as_bytes());
    assert_eq!(one, text.value());
}

#[test]
fn fnv_is_the_published_function() {
    let mut hash = Fnv::new();
    assert_eq!(hash.value(), 0xcbf2_9ce4_8422_2325);
    hash.update(b"foobar");
    assert_eq!(hash.value(), 0x8594_4171_f739_67e8);
}

#[test]
fn a_meter_counts_calls_by_what_became_of_them() {
    let meter = Meter::new();
    run(&Tap::new(Fake::new(queue()), &meter), 1);
    let counts = meter.counts();
    assert_eq!((counts.of("copy", "done"), counts.of("copy", "partial")), (1, 1));
    assert_eq!((counts.total("copy"), counts.total("read")), (2, 2));
    assert_eq!((counts.of("zeropage", "EEXIST"), counts.of("read", "EAGAIN")), (1, 1));
    assert_eq!((counts.messages("fault"), counts.messages("remove")), (1, 1));
    assert_eq!(counts.bytes(), 4 * PAGE);
    assert!(counts.to_string().contains("poison ESRCH: 1\n"));
}

#[test]
fn taps_stack() {
    let (record, meter) = (Record::new(), Meter::new());
    let stack = Tap::new(Tap::new(Fake::new(queue()), &record), &meter);
    run(&stack, 1);
    assert_eq!(record.to_string(), TEXT);
    assert_eq!(meter.counts().iter().map(|(_, _, count)| count).sum::<u64>(), 13);
}

#[test]
fn a_replay_answers_as_the_record_did() {
    let tap = Tap::new(Fake::new(queue()), Record::new());
    run(&tap, 1);
    let replay = Tap::new(Replay::new(tap.observer().take()), Record::new());
    assert_eq!(run(&replay, 1), queue());
    assert_eq!(replay.inner().finish(), Ok(()));
    assert_eq!(replay.observer().to_string(), TEXT);
}

#[test]
fn a_replay_names_the_first_difference_and_stops_there() {
    let tap = Tap::new(Fake::new(queue()), Record::new());
    run(&tap, 1);
    let entries = tap.observer().take();

    let replay = Replay::new(entries.clone());
    run(&replay, 2);
    let mismatch = replay.finish().unwrap_err();
    assert!(matches!(mismatch, Mismatch::Differs { position: 4, .. }), "{mismatch}");
    let text = mismatch.to_string();
    assert!(text.starts_with("call 4 differs") && text.contains("#5907bda7365b3d36"), "{text}");
    assert_eq!(replay.wake(pages(0, 1)), Err(Errno::EIO), "no answer after a difference");

    let replay = Replay::new(entries[..1].to_vec());
    run(&replay, 1);
    assert!(matches!(replay.finish(), Err(Mismatch::Beyond { position: 1, .. })));

    let replay = Replay::new(entries.clone());
    let _ = replay.api(Features::EVENT_REMOVE);
    assert!(matches!(replay.finish(), Err(Mismatch::Short { position: 1, .. })));

    let damaged = Entry { call: entries[0].call, answer: Answer::Unit(Ok(())) };
    let replay = Replay::new(vec![damaged]);
    assert_eq!(replay.api(Features::EVENT_REMOVE), Err(Errno::EIO));
    assert!(matches!(replay.finish(), Err(Mismatch::Damaged { position: 0, .. })));
}

#[test]
fn a_scripted_disturbance_happens_once_in_its_turn() {
    let script = Script::new([
        ("read", Disturbance::Fail(Errno::EINTR)),
        ("read", Disturbance::ShortRead(1)),
        ("copy", Disturbance::ShortIoctl(Len::new(PAGE))),
        ("copy", Disturbance::Fail(Errno::ENOMEM)),
        ("read", Disturbance::Message(Event::Unknown(0x99))),
        ("poison", Disturbance::Fail(Errno::ESRCH)),
        ("read", Disturbance::Eof),
        ("wake", Disturbance::Fail(Errno::EINVAL)),
    ]);
    let uffd = Inject::new(Fake::new(queue()), &script);
    let (mut events, image) = (Vec::new(), [0; 4 * PAGE as usize]);
    assert_eq!(uffd.read_events(&mut events, 8), Err(Errno::EINTR));
    assert_eq!(uffd.read_events(&mut events, 8), Ok(1));
    assert_eq!(events, [fault(1)], "nothing is lost: the rest stays queued");
    let copied = uffd.copy(pages(0, 2), &image, CopyMode::empty());
    assert_eq!(copied, Outcome::partial(PAGE));
    let copied = uffd.copy(pages(1, 1), &image, CopyMode::empty());
    assert_eq!(copied, Outcome::mirrored(Errno::ENOMEM));
    let copied = uffd.copy(pages(1, 1), &image, CopyMode::empty());
    assert_eq!(copied, Outcome::done(PAGE), "only the first page had been installed");
    assert_eq!(uffd.read_events(&mut events, 8), Ok(2));
    assert_eq!(events[1..], [queue()[1], Event::Unknown(0x99)]);
    let poisoned = uffd.poison(pages(2, 1), PoisonMode::empty());
    assert_eq!(poisoned, Outcome::bare(Errno::ESRCH));
    assert_eq!(uffd.read_events(&mut events, 8), Ok(0));
    assert_eq!(uffd.read_events(&mut events, 8), Err(Errno::EAGAIN));
    assert_eq!(script.left(), 1);
    assert_eq!(uffd.wake(pages(0, 1)), Err(Errno::EINVAL));
    assert_eq!(script.left(), 0);
}

#[test]
fn a_closure_may_decide() {
    let never_copy = |call: &Call| match call.name() {
        "copy" => Disturbance::Fail(Errno::EAGAIN),
        _ => Disturbance::Pass,
    };
    let uffd = Inject::new(Fake::new([]), never_copy);
    let copied = uffd.copy(pages(0, 1), &[0; PAGE as usize], CopyMode::empty());
    assert_eq!(copied, Outcome::mirrored(Errno::EAGAIN));
    assert_eq!(uffd.zeropage(pages(0, 1), ZeropageMode::empty()), Outcome::done(PAGE));
}
