//! Memory files that are not what they should be, and what a server does that cannot go
//! on: a page that it cannot read is never a page of zeros.

use std::path::Path;

use shims::PageSize;

use crate::rig::{Client, Scratch, Server, image_word, kernel, resize};

const KIB4: u64 = 4096;
const PAGES: u64 = 16;

#[test]
fn a_memory_file_that_cannot_be_served_is_refused_at_the_start() {
    let scratch = Scratch::new("a_memory_file_that_cannot_be_served_is_refused_at_the_start");
    let refused = |image: &Path, reason: &str| {
        let (code, log) = Server::spawn(&scratch, image, &[]).end();
        assert_eq!(code, Some(2), "{log}");
        assert!(log.contains(reason), "{reason:?} expected, not {log:?}");
    };
    refused(&scratch.path("missing"), "missing");
    let image = scratch.image(KIB4);
    resize(&image, 0);
    refused(&image, "empty");
    resize(&image, KIB4 + 1);
    refused(&image, "4097");
    refused(Path::new("/dev/null"), "/dev/null");
    resize(&image, KIB4);
    let (code, log) = Server::spawn(&scratch, &image, &["--handler", "magic"]).end();
    assert_eq!(code, Some(2), "{log}");
    assert!(log.contains("short-circuit"), "{log}");
    assert!(!scratch.path("socket").exists());
}

/// A server whose memory file has become too short while a client waits for what is
/// gone.
fn shrunk(test: &str, scratch: &Scratch, policy: &str) -> Option<(Server, Client, Asked)> {
    if !kernel(test) {
        return None;
    }
    let image = scratch.image(PAGES * KIB4);
    let mut server = Server::start(scratch, &image, &["--on-failure", policy]);
    let mut client = Client::start(&server, PAGES * KIB4, PageSize::KIB4, 1);
    server.expect_log("serving");
    assert_eq!(client.load(0), image_word(0));
    assert_eq!(client.ask("forget"), "ok");
    resize(&image, 4 * KIB4);
    let load = client.begin(&format!("load {}", 8 * KIB4));
    let line = server.expect_log("shrank");
    assert!(line.contains("0x8000"), "{line}");
    Some((server, client, load))
}

use crate::rig::Asked;

#[test]
fn a_file_that_shrinks_is_an_error_and_by_default_nobody_reads_zeros() {
    let test = "a_file_that_shrinks_is_an_error_and_by_default_nobody_reads_zeros";
    let scratch = Scratch::new(test);
    let Some((mut server, mut client, load)) = shrunk(test, &scratch, "hold") else { return };
    server.expect_log("holding");
    assert!(client.sleeps_over(load), "the page is gone; zeros would be a lie");
    let other = client.begin(&format!("load {KIB4}"));
    assert!(client.sleeps_over(other), "a server that failed serves nothing any more");
    assert_eq!(client.load(8), image_word(8), "what is there is there");
    assert!(server.ask("states").unwrap_err().contains("shrank"));
    assert!(server.is_running(), "the descriptor is held as long as the client lives");
    client.kill();
    let (code, log) = server.end();
    assert_eq!(code, Some(1), "{log}");
}

#[test]
fn a_client_may_be_killed_instead() {
    let test = "a_client_may_be_killed_instead";
    let scratch = Scratch::new(test);
    let Some((mut server, mut client, _)) = shrunk(test, &scratch, "kill") else { return };
    assert!(client.killed());
    assert_eq!(server.end().0, Some(1));
}

#[test]
fn only_who_asks_for_it_lets_a_client_read_zeros() {
    let test = "only_who_asks_for_it_lets_a_client_read_zeros";
    let scratch = Scratch::new(test);
    let Some((mut server, mut client, load)) = shrunk(test, &scratch, "release") else { return };
    assert_eq!(client.answer(load), format!("{:#018x}", 0));
    assert_eq!(server.end().0, Some(1));
}
