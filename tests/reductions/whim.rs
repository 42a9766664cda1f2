//! A handler of which nobody has said how it comes to do what it does, and which makes use of
//! that: whether it moves depends on everything there is in the kernel. Owns that handler.

use shims::{CopyMode, Len, Request, Span, Time};
use sim::Content;
use sim::explore::Fingerprint;
use sim::kernel::{Call, Kernel, PAGE, Payload};
use sim::world::{Env, Move, Note, Setup, Standing, Subject, View};

/// It installs the first page, so many times, whenever it likes.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Whim {
    page: Span,
    left: u8,
    salt: u8,
    in_call: bool,
}

impl Whim {
    /// Each `salt` likes other states.
    pub fn new(setup: &Setup, salt: u8) -> Whim {
        Whim {
            page: Span::new(setup.addr(0), Len::new(PAGE.bytes())),
            left: 2,
            salt,
            in_call: false,
        }
    }

    fn likes(&self, kernel: &Kernel) -> bool {
        core::hash::Hasher::finish(&Fingerprint::of(&(kernel, self.salt))) & 1 == 1
    }
}

impl Subject for Whim {
    fn actors(&self) -> usize {
        1
    }

    fn actor_name(&self, _: usize) -> String {
        "handler".to_owned()
    }

    fn can_step(&self, _: usize, view: View<'_>) -> bool {
        if self.in_call { view.can_step() } else { self.left > 0 && self.likes(view.kernel()) }
    }

    fn step(&mut self, _: usize, env: &mut Env<'_>) -> Move {
        if !self.in_call {
            self.left -= 1;
            self.in_call = true;
            let request = Request::Copy { dst: self.page, mode: CopyMode::empty() };
            let payload = Payload::One(Content::Source { page: 0, version: 0 });
            env.begin(Call::Resolve { ctx: env.ctx(), request, payload });
            return Move::Handler(Note::new("likes it"));
        }
        let did = env.step();
        self.in_call = env.take_ret().is_none();
        Move::Kernel(did)
    }

    fn deadline(&self, _: Time) -> Option<Time> {
        None
    }

    fn standing(&self) -> Standing {
        Standing::Serving
    }

    fn outstanding(&self) -> usize {
        0
    }
}
