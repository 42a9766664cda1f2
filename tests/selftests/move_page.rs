//! `move`, `move-pmd` and `move-pmd-split`.

use shims::{MoveMode, Outcome, RegisterModes};
use sim::Content;

use super::kinds;
use faultbed::judge::{Advise, Back, Kind, Op, PAGE, Piece, Scan};
use faultbed::judge::{Case, Run};

const HOLES: MoveMode = MoveMode::ALLOW_SRC_HOLES;
const HUGE: u64 = 512;
/// `PAGE_IS_HUGE`.
const IS_HUGE: u64 = 1 << 6;

/// The region at page 0 is filled from the one behind it, `chunk` pages at a time.
fn move_common(run: &mut Run, pages: u64, chunk: u64, task: usize) {
    let mut missing = 0;
    for page in (0..pages).step_by(chunk as usize) {
        let reader = run.sleeper(Op::Load(page));
        assert_eq!(run.read(0, 8), [format!("F{page}r")]);
        missing += 1;
        let outcome = run.move_(page, pages + page, chunk, HOLES);
        assert_eq!(outcome, Outcome::done(chunk * PAGE));
        let bytes = Content::Written { task: task as u16, seq: page as u32 + 1 };
        run.returned(reader, Back::Loaded(bytes));
        let (_, source) = run.spawn(Op::Load(pages + page));
        assert_eq!(source, faultbed::judge::Settled::Returned(Back::Loaded(Content::Zero)));
    }
    assert_eq!(missing, pages / chunk);
}

fn case(name: &str, pages: u64) -> Case<'_> {
    let region = Piece::new(0, pages, Kind::Anon);
    let source = Piece { at: pages, ..region };
    Case::new(name, 2 * pages).pieces(&[region, source]).modes(RegisterModes::empty())
}

fn watch(run: &mut Run, pages: u64) {
    let low = run.span(0, pages);
    run.register(0, low, RegisterModes::MISSING).unwrap();
}

fn move_(name: &str, _: Kind) {
    case(name, 8).run(|run| {
        watch(run, 8);
        let writer = run.thread();
        for page in 0..8 {
            run.get(writer, Op::Store(8 + page, page as u32 + 1));
        }
        move_common(run, 8, 1, writer);
    });
}
kinds!(move_: anon = Anon);

/// A source of huge pages; `chunk` pages at a time.
fn huge(name: &str, chunk: u64, whole: bool) {
    case(name, HUGE).run(|run| {
        watch(run, HUGE);
        let writer = run.thread();
        let (low, high) = (Advise::NoHugePage, Advise::HugePage);
        run.get(writer, Op::advise(0, HUGE, if whole { high } else { low }));
        run.get(writer, Op::advise(HUGE, 2 * HUGE, high));
        for page in (0..HUGE).step_by(chunk as usize) {
            run.get(writer, Op::Store(HUGE + page, page as u32 + 1));
        }
        let scan = |start| Scan { start, end: start + HUGE, flags: 0, mask: IS_HUGE };
        assert_eq!(run.scan(scan(HUGE)), Ok(vec![(HUGE, 2 * HUGE, IS_HUGE)]));
        // Nor does the kernel's own daemon collapse meanwhile what the moves leave.
        run.get(writer, Op::advise(HUGE, 2 * HUGE, low));
        move_common(run, HUGE, chunk, writer);
        let left = if whole { vec![(0, HUGE, IS_HUGE)] } else { vec![] };
        assert_eq!(run.scan(scan(0)), Ok(left));
    });
}

fn move_pmd(name: &str, _: Kind) {
    huge(name, HUGE, true);
}
kinds!(move_pmd: anon = Anon);

fn move_pmd_split(name: &str, _: Kind) {
    huge(name, 64, false);
}
kinds!(move_pmd_split: anon = Anon);
