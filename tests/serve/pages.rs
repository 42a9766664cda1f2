//! What is faulted, removed and never touched, compared page by page.

use std::os::unix::fs::PermissionsExt;

use handler::states::{CLEAN, DIRTY, REMOVED, ZERO};
use shims::PageSize;
use shims::linux::hugepages::Reservation;
use shims::wrap::Fnv;

use crate::rig::{Client, Scratch, Server, image_word, kernel};

const KIB4: u64 = 4096;

/// Touch, write and drop pages of a client, and compare strictly.
fn exercise(test: &str, page: PageSize, pages: u64, regions: u64) {
    let (scratch, size) = (Scratch::new(test), page.bytes());
    let image = scratch.image(pages * size);
    let mut server = Server::start(&scratch, &image, &[]);
    let mode = std::fs::metadata(&server.socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(server.ask("states").unwrap_err().contains("no client"));

    let mut client = Client::start(&server, pages * size, page, regions);
    server.expect_log("serving");
    assert_eq!(server.states(), []);

    let last = pages - 1;
    assert_eq!(client.load(0), image_word(0));
    assert_eq!(client.load(last * size + 8), image_word(last * size + 8));
    let whole: Vec<u8> =
        (0..size / 8).flat_map(|word| image_word(3 * size + 8 * word).to_ne_bytes()).collect();
    assert_eq!(
        client.ask(&format!("digest {} {size}", 3 * size)),
        format!("{:#018x}", Fnv::of(&whole))
    );
    assert_eq!(client.ask(&format!("populate-write {} {size}", 2 * size)), "ok");
    assert_eq!(client.ask(&format!("store {} 77", size + 16)), "ok");
    assert_eq!(
        server.states(),
        [(0, CLEAN), (size, DIRTY), (2 * size, DIRTY), (3 * size, CLEAN), (last * size, CLEAN),]
    );

    // Pages 1 and 2 were written, 3 was read, 4 was never touched.
    assert_eq!(client.ask(&format!("remove {size} {}", 4 * size)), "ok");
    for gone in 1..=4 {
        assert_eq!(client.ask(&format!("present {}", gone * size)), "no");
    }
    assert_eq!(
        server.states(),
        [
            (0, CLEAN),
            (size, REMOVED),
            (2 * size, REMOVED),
            (3 * size, REMOVED),
            (4 * size, REMOVED),
            (last * size, CLEAN),
        ]
    );

    // What was removed is zero, read or written; what was not is as it was.
    assert_eq!(client.load(size + 16), 0);
    assert_eq!(client.load(4 * size), 0);
    assert_eq!(client.ask(&format!("store {} 78", 3 * size)), "ok");
    assert_eq!((client.load(3 * size), client.load(3 * size + 8)), (78, 0));
    assert_eq!(client.load(8), image_word(8));
    // On huge pages a zero page is a page of zeros, writable at once.
    assert_eq!(
        server.states(),
        [
            (0, CLEAN),
            (size, ZERO),
            (2 * size, REMOVED),
            (3 * size, DIRTY),
            (4 * size, ZERO),
            (last * size, CLEAN),
        ]
    );
    let text = String::from_utf8(server.ask("states text").unwrap()).unwrap();
    assert_eq!(text.lines().filter(|line| line.contains("zero")).count(), 2, "{text}");

    client.quit();
    let (code, log) = server.end();
    assert_eq!(code, Some(0), "{log}");
    assert!(!server.socket.exists(), "the socket is taken away");
}

#[test]
fn pages_of_4_kib_in_one_region_are_served_and_accounted_for() {
    let test = "pages_of_4_kib_in_one_region_are_served_and_accounted_for";
    if kernel(test) {
        exercise(test, PageSize::KIB4, 64, 1);
    }
}

#[test]
fn pages_of_4_kib_in_two_regions_are_served_and_accounted_for() {
    let test = "pages_of_4_kib_in_two_regions_are_served_and_accounted_for";
    if kernel(test) {
        // Pages 1 to 3 in the first region and the last in the second one; the remove
        // stays inside the first.
        exercise(test, PageSize::KIB4, 16, 2);
    }
}

#[test]
fn pages_of_2_mib_are_served_and_accounted_for() {
    let test = "pages_of_2_mib_are_served_and_accounted_for";
    if !kernel(test) {
        return;
    }
    let Some(_pool) = Reservation::gate(test, 8) else { return };
    exercise(test, PageSize::MIB2, 8, 1);
}

#[test]
fn while_paused_faults_pile_up_and_are_answered_afterwards() {
    let test = "while_paused_faults_pile_up_and_are_answered_afterwards";
    if !kernel(test) {
        return;
    }
    let scratch = Scratch::new(test);
    let image = scratch.image(16 * KIB4);
    let mut server = Server::start(&scratch, &image, &["--handler", "default"]);
    let mut client = Client::start(&server, 16 * KIB4, PageSize::KIB4, 1);
    server.expect_log("serving");
    assert_eq!(client.load(0), image_word(0));
    server.ask("pause").unwrap();
    let load = client.begin(&format!("load {KIB4}"));
    let remove = client.begin(&format!("remove {} {KIB4}", 2 * KIB4));
    assert!(client.sleeps_over(load) && client.sleeps_over(remove));
    assert_eq!(server.states(), [(0, CLEAN)], "a snapshot of a paused server changes nothing");
    assert!(client.sleeps_over(load) && client.sleeps_over(remove), "still paused");
    server.ask("resume").unwrap();
    assert_eq!(client.answer(load), format!("{:#018x}", image_word(KIB4)));
    assert_eq!(client.answer(remove), "ok");
    assert_eq!(server.states(), [(0, CLEAN), (KIB4, CLEAN), (2 * KIB4, REMOVED)]);

    let help = String::from_utf8(server.ask("help").unwrap()).unwrap();
    assert!(help.contains("states text"), "{help}");
    assert!(server.ask("dance").unwrap_err().contains("no such command"));
    server.ask("stop").unwrap();
    assert_eq!(server.end().0, Some(0));
}

#[test]
fn a_client_that_is_killed_over_a_fault_ends_the_server_in_peace() {
    let test = "a_client_that_is_killed_over_a_fault_ends_the_server_in_peace";
    if !kernel(test) {
        return;
    }
    let scratch = Scratch::new(test);
    let image = scratch.image(16 * KIB4);
    let mut server = Server::start(&scratch, &image, &[]);
    let mut client = Client::start(&server, 16 * KIB4, PageSize::KIB4, 1);
    server.expect_log("serving");
    assert_eq!(client.load(0), image_word(0));
    server.ask("pause").unwrap();
    let load = client.begin(&format!("load {KIB4}"));
    assert!(client.sleeps_over(load));
    client.kill();
    let (code, log) = server.end();
    assert_eq!(code, Some(0), "{log}");
}
