//! Making a program small on which the kernels part: fewer steps, shorter ranges, less memory,
//! fewer threads, as long as they still part somewhere. Owns the attempts.

use shims::Errno;
use sim::Profile;

use super::step::{Ask, Part, Program, Step};
use super::{Both, Difference, End};
use crate::judge::{Op, PAGE};

/// A disagreement may hang on who is first; so often is a program tried before it is said to
/// agree.
const TRIES: u32 = 3;

/// Run a whole program, leaving out steps that make no sense where they stand. The difference
/// and the steps up to it.
pub(super) fn replay(
    profile: &Profile,
    program: &Program,
) -> Result<Option<(Program, Difference)>, Errno> {
    let mut both = Both::new(profile, &program.setup, true)?;
    let mut done = Vec::new();
    for step in &program.steps {
        if !both.possible.worlds[0].admits(step) {
            continue;
        }
        done.push(step.clone());
        match both.step(step)? {
            End::Same => {}
            End::Cut | End::Beyond => return Ok(None),
            End::Differs(difference) => {
                let program = Program { setup: program.setup.clone(), steps: done };
                return Ok(Some((program, difference)));
            }
        }
    }
    Ok(None)
}

fn differs(profile: &Profile, program: &Program) -> Result<Option<(Program, Difference)>, Errno> {
    for _ in 0..TRIES {
        if let Some(found) = replay(profile, program)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// The smallest program this finds on which the kernels still part; nothing if `program` cannot
/// be brought to do so again.
pub(super) fn shrink(
    profile: &Profile,
    program: &Program,
) -> Result<Option<(Program, Difference)>, Errno> {
    let Some(mut best) = differs(profile, program)? else { return Ok(None) };
    loop {
        let before = best.0.clone();
        let mut chunk = best.0.steps.len().div_ceil(2);
        while chunk > 0 {
            let mut at = 0;
            while at < best.0.steps.len() {
                let mut fewer = best.0.clone();
                let end = (at + chunk).min(fewer.steps.len());
                fewer.steps.drain(at..end);
                match differs(profile, &fewer)? {
                    Some(found) => best = found,
                    None => at += chunk,
                }
            }
            chunk /= 2;
        }
        let mut n = 0;
        while n < best.0.steps.len() {
            let tried = simpler(&best.0, n);
            n += 1;
            for step in tried {
                let mut other = best.0.clone();
                if let Some(place) = other.steps.get_mut(n - 1) {
                    *place = step;
                    if let Some(found) = differs(profile, &other)? {
                        best = found;
                    }
                }
            }
        }
        for other in smaller(&best.0) {
            if let Some(found) = differs(profile, &other)? {
                best = found;
            }
        }
        if best.0 == before {
            return Ok(Some(best));
        }
    }
}

/// The same with less memory, or fewer threads.
fn smaller(program: &Program) -> Vec<Program> {
    let mut found = Vec::new();
    for n in 0..program.setup.pieces.len() {
        if program.setup.pieces.len() > 1 {
            let mut other = program.clone();
            other.setup.pieces.remove(n);
            found.push(other);
        }
        let mut other = program.clone();
        let piece = &mut other.setup.pieces[n];
        if piece.pages > piece.kind.granule() {
            piece.pages -= piece.kind.granule();
            found.push(other);
        }
    }
    // A thread less: what it did is done by the one before, or by nobody.
    let threads = program.setup.threads;
    if threads > 1 {
        for gone in 0..threads {
            let mut other = program.clone();
            other.setup.threads -= 1;
            other.steps.retain(|step| {
                !matches!(step, Step::Thread { thread, .. } | Step::Signal(thread) if *thread == gone)
            });
            for step in &mut other.steps {
                if let Step::Thread { thread, .. } | Step::Signal(thread) = step
                    && *thread > gone
                {
                    *thread -= 1;
                }
            }
            found.push(other);
        }
    }
    found
}

/// The step with a shorter range, or with another thread to do it.
fn simpler(program: &Program, n: usize) -> Vec<Step> {
    let unit = if program.setup.is_huge() { 512 * PAGE } else { PAGE };
    let mut found = Vec::new();
    match &program.steps[n] {
        Step::Thread { thread, op } => {
            let mut op = *op;
            let lens = match &mut op {
                Op::Populate { len, .. }
                | Op::DontNeed { len, .. }
                | Op::Advise { len, .. }
                | Op::DontNeedSelf { len, .. }
                | Op::Map { len, .. }
                | Op::Unmap { len, .. }
                | Op::Protect { len, .. } => Some(len),
                _ => None,
            };
            if let Some(len) = lens
                && *len > unit
            {
                *len = unit;
                found.push(Step::Thread { thread: *thread, op });
            }
            if *thread > 0 {
                let op = match &program.steps[n] {
                    Step::Thread { op, .. } => *op,
                    _ => op,
                };
                found.push(Step::Thread { thread: thread - 1, op });
            }
        }
        Step::Ask { uffd, ask } => {
            let mut ask = *ask;
            if let Ask::Register(part, _)
            | Ask::Unregister(part)
            | Ask::Copy(part, ..)
            | Ask::Zero(part, _)
            | Ask::Continue(part, _)
            | Ask::Protect(part, _)
            | Ask::Poison(part, _)
            | Ask::Move(part, ..)
            | Ask::Wake(part) = &mut ask
                && part.len > unit
            {
                *part = Part { len: unit, ..*part };
                found.push(Step::Ask { uffd: *uffd, ask });
            }
        }
        Step::Open(features) => {
            for feature in features.iter() {
                found.push(Step::Open(*features - feature));
            }
        }
        Step::Close(_) | Step::Signal(_) | Step::Kill(_) => {}
    }
    found
}
