//! Making a disagreement short: leave out runs of calls, then single ones, as long as the
//! two sides still differ somewhere.

use shims::linux::vma_probe::{ProbeError, VmaProbe};

use super::compare::run_both;
use super::op::Op;

/// The shortest sequence that this finds and on which the two sides still differ.
pub fn shrink(probe: &mut VmaProbe, mut ops: Vec<Op>) -> Result<Vec<Op>, ProbeError> {
    if let Some(difference) = run_both(probe, &ops)? {
        ops.truncate(difference.step + 1 + skipped(&ops, difference.step));
    }
    let mut chunk = ops.len().div_ceil(2);
    while chunk > 0 {
        let mut at = 0;
        while at < ops.len() {
            let mut fewer = ops.clone();
            fewer.drain(at..(at + chunk).min(ops.len()));
            if run_both(probe, &fewer)?.is_some() {
                ops = fewer;
            } else {
                at += chunk;
            }
        }
        chunk /= 2;
    }
    Ok(ops)
}

/// How many calls the model leaves out up to and including call number `step`.
fn skipped(ops: &[Op], step: usize) -> usize {
    let mut model = super::Model::new();
    let (mut done, mut skipped) = (0, 0);
    for op in ops {
        if !model.admits(op) {
            skipped += 1;
            continue;
        }
        if done == step {
            break;
        }
        let _ = model.apply(op);
        done += 1;
    }
    skipped
}
