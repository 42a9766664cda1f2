//! The mappings of an address space: which VMAs exist, with which attributes, after each
//! system call that changes them. Owns the tree and the rules of merging and splitting
//! (docs/kernel/vma.md states them); owns no page, no page table and no userfaultfd queue.
//!
//! An operation has three parts that never mix: a pure decision about what joins with what
//! ([`merge`](self)), one edit of the tree, and a check of the whole tree
//! ([`AddressSpace::validate`]).

mod advise;
mod area;
mod flags;
mod fork;
mod heap;
mod layout;
mod layout_parse;
mod lock;
mod map;
mod merge;
mod modify;
mod place;
mod policy;
mod protect;
mod refused;
mod relocate;
mod remap;
mod removed;
mod request;
mod rules;
mod seal;
mod simple;
mod space;
mod stack;
#[cfg(test)]
mod tests;
mod tree;
mod uffd;
mod unmap;
mod validate;

pub use advise::Advice;
pub use area::{Anon, Backing, CtxId, FileId, NameId, PolicyId, Vma};
pub use flags::{Prot, VmaFlags};
pub use heap::Heap;
pub use layout::Layout;
pub use layout_parse::LayoutError;
pub use lock::LockAll;
pub use refused::Refused;
pub use remap::{Moved, Mremap, RemapFlags, Remapped};
pub use removed::{Mapped, Part, Removed};
pub use request::{FileKind, MapFile, MapFlags, Mmap};
pub use rules::{Limits, Rules};
pub use space::AddressSpace;
pub use validate::Broken;
