//! A scenario whose handler is ours, on the running kernel: the tasks are threads of processes
//! of their own and go as fast as they like, the handler is the `threads` driver over the real
//! userfaultfd. Owns what such a run can come to, and which scenarios cannot run so.
//!
//! The simulator searches the orders of the steps; here the machine chooses them, and what is
//! checked is what can be known without knowing the order.

use core::fmt;

use sim::Profile;
use sim::kernel::Ret;
use sim::world::{Mishaps, Op, Setup};

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod cast;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod deed;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod oracle;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod round;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod score;

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub use round::Live;

/// Pages, of whatever size, that the memory of such a run has at most.
const MAX_PAGES: u64 = 16 << 10;
/// The same if they are huge.
const MAX_HUGE_PAGES: u64 = 64;

/// Something that is wrong with a run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Objection {
    /// What kind of thing, in the words of the simulator's oracles.
    pub class: &'static str,
    /// Precisely.
    pub what: String,
}

impl Objection {
    /// An objection of that class.
    pub fn new(class: &'static str, what: impl Into<String>) -> Objection {
        Objection { class, what: what.into() }
    }
}

impl fmt::Display for Objection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.class.to_uppercase(), self.what)
    }
}

/// Why no running kernel can run the scenario, whoever asks; none if one can.
pub fn only_simulated(setup: &Setup) -> Option<String> {
    if setup.mishaps != Mishaps::default() {
        let message = "`mishaps`: they strike in the simulator, at moments that it chooses";
        return Some(message.to_owned());
    }
    if setup.profile != Profile::default() {
        let message = "`profile` and `bugs`: it is about another kernel than the one that runs";
        return Some(message.to_owned());
    }
    let limit = match setup.memory.page_size() {
        shims::PageSize::KIB4 => MAX_PAGES,
        _ => MAX_HUGE_PAGES,
    };
    if setup.slots() > limit {
        return Some(format!("more than {limit} pages of `{}`", setup.memory));
    }
    setup.programs.iter().find_map(|program| {
        let (op, line) = program
            .ops
            .iter()
            .zip(&program.lines)
            .find(|(op, _)| matches!(op, Op::Inject(_) | Op::Close))?;
        let why = match op {
            Op::Close => "the handler holds the userfaultfd open as long as it runs",
            _ => "a healthy userfaultfd shows no such thing",
        };
        Some(format!("line {line}, `{}`: {why}", setup.operation(op)))
    })
}

/// Does a task of the scenario fault inside the kernel?
pub fn faults_in_the_kernel(setup: &Setup) -> bool {
    let mut ops = setup.programs.iter().flat_map(|program| &program.ops);
    ops.any(|op| matches!(op, Op::Populate { .. }))
}

/// How a result reads.
#[cfg_attr(not(all(target_os = "linux", target_arch = "x86_64")), expect(dead_code))]
pub(super) fn ret_text(ret: &Ret) -> String {
    match ret {
        Ret::Loaded(content) => format!("{content}"),
        Ret::Stored | Ret::Ok(_) => "ok".to_owned(),
        Ret::Err(errno) => format!("{errno:?}"),
        other => format!("{other:?}"),
    }
}
