//! A random program as a scenario with a scripted handler, that `faultbed run` goes through on
//! either kernel. Owns the translation.

use shims::{
    ContinueMode, CopyMode, Features, MoveMode, PoisonMode, RegisterModes, WriteProtectMode,
    ZeropageMode,
};

use super::step::{Ask, Part, Program, Step};
use crate::judge::program::{self, Body, Doing, Watched};

fn part(part: Part) -> program::Part {
    program::Part { at: part.at, len: part.len }
}

/// The request in the words of scenarios; nothing for a scan, which they have no word for.
fn ask(ask: Ask) -> Option<program::Ask> {
    Some(match ask {
        Ask::Read(max) => program::Ask::Events(max),
        Ask::Register(at, modes) => {
            program::Ask::Register(part(at), RegisterModes::from_bits_retain(modes))
        }
        Ask::Unregister(at) => program::Ask::Unregister(part(at)),
        Ask::Copy(at, mode, _) => program::Ask::Copy(part(at), CopyMode::from_bits_retain(mode)),
        Ask::Zero(at, mode) => {
            program::Ask::Zeropage(part(at), ZeropageMode::from_bits_retain(mode))
        }
        Ask::Continue(at, mode) => {
            program::Ask::Continue(part(at), ContinueMode::from_bits_retain(mode))
        }
        Ask::Protect(at, mode) => {
            program::Ask::WriteProtect(part(at), WriteProtectMode::from_bits_retain(mode))
        }
        Ask::Poison(at, mode) => program::Ask::Poison(part(at), PoisonMode::from_bits_retain(mode)),
        Ask::Move(at, from, mode) => {
            let from = Part { at: from, len: at.len };
            program::Ask::Move(part(from), at.at, MoveMode::from_bits_retain(mode))
        }
        Ask::Wake(at) => program::Ask::Wake(part(at)),
        Ask::NonBlocking(on) => program::Ask::Nonblocking(on),
        Ask::Scan(..) => return None,
    })
}

/// The program as a sequence; nothing if scenarios have no word for something in it.
pub(super) fn scenario(program: &Program, name: &str, about: &str) -> Option<program::Program> {
    let setup = &program.setup;
    let mut steps = &program.steps[..];
    let mut features = Features::empty();
    if let [Step::Open(asked), rest @ ..] = steps {
        (features, steps) = (*asked, rest);
    }
    let last = steps.iter().filter_map(|step| match step {
        Step::Thread { thread, .. } | Step::Signal(thread) => Some(*thread),
        _ => None,
    });
    let threads = last.max().map_or(setup.threads, |last| setup.threads.max(last + 1));
    let process = |thread: usize| (thread + 1).saturating_sub(setup.threads);
    let mut tasks: Vec<_> =
        (0..threads).map(|thread| (format!("t{thread}"), process(thread))).collect();
    tasks.push(("handler".to_owned(), 0));
    let step = |step: &Step| {
        let (task, doing) = match step {
            Step::Thread { thread, op } => (*thread, Doing::Thread(*op)),
            Step::Ask { uffd, ask: asked } => (threads, Doing::Uffd(*uffd, ask(*asked)?)),
            Step::Open(features) => (threads, Doing::Open(*features)),
            Step::Close(uffd) => (threads, Doing::Uffd(*uffd, program::Ask::Close)),
            Step::Signal(thread) => (threads, Doing::Signal(*thread)),
            Step::Kill(process) => (threads, Doing::Kill(*process)),
        };
        Some(program::Step { task, doing: Some(doing), expect: None })
    };
    let steps = steps.iter().map(step).collect::<Option<Vec<_>>>()?;
    let end = setup.pieces.iter().map(|piece| piece.at + piece.pages).max().unwrap_or(0);
    let watched = |piece: &_| Watched { piece: *piece, modes: RegisterModes::empty() };
    Some(program::Program {
        name: name.to_owned(),
        about: about.to_owned(),
        memory: setup.pieces.iter().map(watched).collect(),
        room: setup.pages.saturating_sub(end),
        features,
        user_mode_only: setup.user_mode_only,
        profile: None,
        setup: Vec::new(),
        body: Body::Sequence { tasks, steps },
        conditions: Vec::new(),
    })
}
