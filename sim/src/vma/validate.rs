//! The invariants of a whole address space. Owns what "broken" means.

use core::fmt;

use shims::Addr;

use super::AddressSpace;
use super::VmaFlags;
use super::space::{is_aligned, is_data};

/// An invariant that does not hold. Only a bug of this crate can cause one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Broken {
    /// A VMA is empty, reversed or not made of whole pages.
    Shape(Addr),
    /// A VMA overlaps the one below it, or they are out of order.
    Order(Addr),
    /// A context without a mode, or a mode without a context.
    Registration(Addr),
    /// Shared memory with an anon_vma.
    SharedAnon(Addr),
    /// A node of the tree does not know what is below it.
    Tree,
    /// A counter does not agree with the VMAs.
    Counter(&'static str),
}

impl AddressSpace {
    /// Check the whole tree and every counter.
    pub fn validate(&self) -> Result<(), Broken> {
        let (mut floor, mut total, mut data, mut locked, mut count) = (0, 0, 0, 0, 0);
        for vma in self.iter() {
            let at = vma.start();
            if vma.start >= vma.end || !is_aligned(vma.start) || !is_aligned(vma.end) {
                return Err(Broken::Shape(at));
            }
            if vma.start < floor {
                return Err(Broken::Order(at));
            }
            if vma.ctx.is_some() != vma.flags.intersects(VmaFlags::UFFD) {
                return Err(Broken::Registration(at));
            }
            if !vma.is_private() && vma.anon.is_some() {
                return Err(Broken::SharedAnon(at));
            }
            floor = vma.end;
            count += 1;
            total += vma.pages();
            data += if is_data(vma.flags) { vma.pages() } else { 0 };
            locked += if vma.flags.contains(VmaFlags::LOCKED) { vma.pages() } else { 0 };
        }
        if !self.tree.is_sound() {
            return Err(Broken::Tree);
        }
        if count != self.map_count() {
            return Err(Broken::Counter("map_count"));
        }
        if total != self.total_pages {
            return Err(Broken::Counter("total_pages"));
        }
        if data != self.data_pages {
            return Err(Broken::Counter("data_pages"));
        }
        if locked != self.locked_pages {
            return Err(Broken::Counter("locked_pages"));
        }
        Ok(())
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Broken::Shape(at) => write!(f, "the VMA at {at} is not a range of whole pages"),
            Broken::Order(at) => write!(f, "the VMA at {at} overlaps the one below it"),
            Broken::Registration(at) => {
                write!(f, "the VMA at {at} has a context without a mode or the reverse")
            }
            Broken::SharedAnon(at) => write!(f, "the shared VMA at {at} has an anon_vma"),
            Broken::Tree => write!(f, "a node of the tree does not know what is below it"),
            Broken::Counter(name) => write!(f, "{name} does not agree with the VMAs"),
        }
    }
}

impl core::error::Error for Broken {}
