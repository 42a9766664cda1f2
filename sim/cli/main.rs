//! The `faultbed` command.

fn main() {}
