//! The handler of the guide, before and after it was searched. Owns no real memory: whoever
//! calls it brings a userfaultfd.

pub mod first;
pub mod fixed;
mod os;
#[cfg(test)]
mod tests;
