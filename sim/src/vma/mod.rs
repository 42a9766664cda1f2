//! The mappings of an address space: which VMAs exist, with which attributes, after each
//! system call that changes them. Owns the tree and the rules of merging and splitting
//! (docs/kernel/vma.md states them); owns no page, no page table and no userfaultfd queue.
//!
//! An operation has three parts that never mix: a pure decision about what joins with what
//! ([`merge`](self)), one edit of the tree, and a check of the whole tree
//! ([`AddressSpace::validate`]).

mod flags;
mod layout;
mod map;
mod merge;
mod modify;
mod protect;
mod removed;
mod request;
mod rules;
#[cfg(test)]
mod smoke;
mod space;
mod tree;
mod uffd;
mod unmap;
mod validate;
mod vma;

pub use flags::{Prot, VmaFlags};
pub use layout::Layout;
pub use removed::{Mapped, Part, Removed};
pub use request::{FileKind, MapFile, MapFlags, Mmap};
pub use rules::{Limits, Rules};
pub use space::AddressSpace;
pub use validate::Broken;
pub use vma::{Anon, Backing, CtxId, FileId, NameId, PolicyId, Vma};
