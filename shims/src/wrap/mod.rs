//! Decorators: each wraps any [`Uffd`](crate::Uffd) and is one itself, so they stack.
