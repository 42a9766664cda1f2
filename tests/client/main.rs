//! The test client of `faultbed serve`; see `client.rs`. Elsewhere than on Linux it is a
//! program that says so, because Cargo builds it with the others.

#[cfg(target_os = "linux")]
mod client;

#[cfg(target_os = "linux")]
fn main() {
    client::main();
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("faultbed-client: there is no userfaultfd here; it is Linux's");
    std::process::exit(2);
}
