//! A stack to run a handler's thread on. Owns the pool of stacks; knows nothing of locks or
//! kernels.

use std::cell::RefCell;

use generator::{Generator, Gn};

/// The size of a stack, in machine words: 256 KiB, of which only what is touched is real.
pub(super) const STACK: usize = 32 << 10;

/// Stacks a host thread keeps for later.
const KEPT: usize = 64;

thread_local! {
    static IDLE: RefCell<Vec<Generator<'static, (), ()>>> = const { RefCell::new(Vec::new()) };
}

/// Code that runs until it yields, and can be resumed there.
pub(super) struct Fiber {
    /// `None` only while it is dropped.
    generator: Option<Generator<'static, (), ()>>,
}

impl Fiber {
    /// A fiber that will run `body`, which must not panic.
    pub(super) fn new(body: impl FnOnce() + Send + 'static) -> Fiber {
        let idle = IDLE.with_borrow_mut(Vec::pop);
        let generator = match idle {
            Some(mut generator) => {
                generator.init_code(body);
                generator
            }
            None => Gn::new_opt(STACK, body),
        };
        Fiber { generator: Some(generator) }
    }

    /// Run until the body yields or ends.
    pub(super) fn resume(&mut self) {
        self.generator.as_mut().expect("it lives").resume();
    }
}

impl Fiber {
    /// Leave the stack as it is, for ever: its code does not end.
    pub(super) fn abandon(mut self) {
        std::mem::forget(self.generator.take());
    }
}

impl Drop for Fiber {
    fn drop(&mut self) {
        // One that has not ended is unwound by its own drop, and its stack given back.
        let Some(generator) = self.generator.take() else { return };
        if generator.is_done() {
            let _ = IDLE.try_with(|idle| {
                let mut idle = idle.borrow_mut();
                if idle.len() < KEPT {
                    idle.push(generator);
                }
            });
        }
    }
}

/// Give control back to whoever resumed the running fiber.
#[expect(deprecated, reason = "the scoped form needs a handle that ordinary code does not have")]
pub(super) fn yield_now() {
    generator::yield_with(());
}
