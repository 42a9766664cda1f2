//! What an operation took away: the pieces whose pages must be zapped, and the userfaultfd
//! contexts that had some of them. Owns the record; zapping and announcing is the caller's.

use core::hash::{Hash, Hasher};

use shims::{Addr, Len, RegisterModes, Span};

use super::area::PAGE_SHIFT;
use super::{Backing, CtxId, Vma};

/// A piece of a VMA that an operation removed, or whose registration it cleared.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Part {
    /// First byte.
    pub start: Addr,
    /// One past the last byte.
    pub end: Addr,
    /// The context it was registered with.
    pub ctx: Option<CtxId>,
    /// The modes it was registered with.
    pub modes: RegisterModes,
    /// Where its pages came from.
    pub backing: Backing,
    /// The page offset of its first page.
    pub pgoff: u64,
}

impl Part {
    pub(super) fn of(vma: &Vma) -> Part {
        Part::between(vma, vma.start, vma.end)
    }

    /// The part `[start, end)` of it.
    #[inline]
    pub(super) fn between(vma: &Vma, start: u64, end: u64) -> Part {
        Part {
            start: Addr::new(start),
            end: Addr::new(end),
            ctx: vma.ctx,
            modes: vma.uffd_modes(),
            backing: vma.backing,
            pgoff: vma.pgoff + ((start - vma.start) >> PAGE_SHIFT),
        }
    }

    /// Its range.
    pub fn span(&self) -> Span {
        Span::new(self.start, Len::new(self.end.raw() - self.start.raw()))
    }
}

/// The pieces an operation unmapped, in address order. Nothing is allocated for one piece.
#[derive(Clone, Debug, Default)]
pub struct Removed(Pieces);

#[derive(Clone, Debug, Default)]
enum Pieces {
    #[default]
    None,
    One(Part),
    Many(Vec<Part>),
}

impl Removed {
    #[inline]
    pub(super) fn one(part: Part) -> Removed {
        Removed(Pieces::One(part))
    }

    pub(super) fn push(&mut self, part: Part) {
        match &mut self.0 {
            Pieces::None => self.0 = Pieces::One(part),
            Pieces::One(first) => self.0 = Pieces::Many(vec![*first, part]),
            Pieces::Many(parts) => parts.push(part),
        }
    }

    fn as_slice(&self) -> &[Part] {
        match &self.0 {
            Pieces::None => &[],
            Pieces::One(part) => core::slice::from_ref(part),
            Pieces::Many(parts) => parts,
        }
    }

    /// Was nothing unmapped?
    pub fn is_empty(&self) -> bool {
        self.as_slice().is_empty()
    }

    /// The pieces, in address order.
    pub fn parts(&self) -> impl Iterator<Item = &Part> {
        self.as_slice().iter()
    }

    /// The ranges of the pieces.
    pub fn spans(&self) -> impl Iterator<Item = Span> {
        self.parts().map(Part::span)
    }

    /// Each context that had a VMA among them, once, in the order of its first VMA
    /// (rule d14).
    pub fn ctxs(&self) -> impl Iterator<Item = CtxId> {
        self.parts().enumerate().filter_map(|(i, part)| {
            part.ctx.filter(|ctx| !self.parts().take(i).any(|earlier| earlier.ctx == Some(*ctx)))
        })
    }
}

impl PartialEq for Removed {
    fn eq(&self, other: &Removed) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for Removed {}

impl Hash for Removed {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_slice().hash(state);
    }
}

/// What `mmap` did.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Mapped {
    /// Where the mapping is.
    pub addr: Addr,
    /// What it replaced.
    pub removed: Removed,
}
