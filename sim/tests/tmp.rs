extern crate faultbed_sim as sim;
#[path = "../../tests/suite/support/mod.rs"]
mod support;
#[path = "../../tests/suite/kernel.rs"]
mod kernel;
