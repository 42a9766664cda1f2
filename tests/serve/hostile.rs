//! Handshakes that are wrong, and clients that mean harm: each is turned away with a
//! message, and the next client is served.

use std::fs::File;
use std::io::Write;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use shims::linux::{Mapping, OpenFlags, UserFault, scm};
use shims::{Features, Len, PageSize, Uffd};

use crate::rig::{Client, Scratch, Server, image_word, kernel};

const KIB4: u64 = 4096;
const PAGES: u64 = 16;

fn region(base: u64, size: u64, offset: u64, page: u64) -> String {
    format!(
        r#"{{"base_host_virt_addr":{base},"size":{size},"offset":{offset},"page_size":{page}}}"#
    )
}

/// Send `message` with `fds`, and tell why the server turned it away.
fn refusal(server: &mut Server, message: &str, fds: &[BorrowedFd<'_>]) -> String {
    let socket = UnixStream::connect(&server.socket).unwrap();
    // The server may have enough of a long message before it is sent.
    let _ = scm::send(&socket, message.as_bytes(), fds);
    let _ = socket.shutdown(Shutdown::Write);
    server.expect_log("turned away")
}

#[test]
fn a_hostile_handshake_ends_its_client_with_a_message_and_nothing_else() {
    let test = "a_hostile_handshake_ends_its_client_with_a_message_and_nothing_else";
    if !kernel(test) {
        return;
    }
    let scratch = Scratch::new(test);
    let image = scratch.image(PAGES * KIB4);
    let mut server = Server::start(&scratch, &image, &["--handshake-timeout", "1"]);
    let map = Mapping::anonymous(Len::new(PAGES * KIB4)).unwrap();
    let (uffd, _) = UserFault::connect(OpenFlags::empty(), Features::EVENT_REMOVE).unwrap();
    let base = map.addr().raw();
    let good = format!("[{}]", region(base, PAGES * KIB4, 0, KIB4));
    let one = [uffd.as_fd()];

    let mut expect = |message: &str, fds: &[BorrowedFd<'_>], reason: &str| {
        let line = refusal(&mut server, message, fds);
        assert!(line.contains(reason), "{reason:?} expected, not {line:?}");
    };
    let mut regions = |list: &[String], reason: &str| {
        expect(&format!("[{}]", list.join(",")), &one, reason);
    };
    let half = PAGES / 2 * KIB4;
    regions(&[], "names no region");
    regions(&[region(base, half, 0, KIB4), region(base, half, half, KIB4)], "overlap in memory");
    regions(&[region(base, half, 0, KIB4), region(base + half, half, 0, KIB4)], "overlap in the");
    regions(&[region(base + 1, half, 0, KIB4)], "not at a 4 KiB page boundary");
    regions(&[region(base, half + 1, 0, KIB4)], "not a whole number of 4 KiB pages");
    regions(&[region(base, half, 1, KIB4)], "not a multiple of the page size");
    regions(&[region(base, half, 0, 8192)], "4096 or 2097152, not 8192");
    regions(&[region(base, 2 * PAGES * KIB4, 0, KIB4)], "which ends at 0x10000");
    regions(&[region(base, KIB4, u64::MAX - 4095, KIB4)], "overflow");
    regions(&[region(u64::MAX - 4095, KIB4, 0, KIB4)], "past the end of the address space");
    regions(&[region(1 << 62, KIB4, 0, KIB4)], "beyond user memory");
    regions(&[region(base, 0, 0, KIB4)], "the range is empty");

    expect(&good, &[], "no descriptor came");
    expect(&good, &[uffd.as_fd(), uffd.as_fd()], "2 descriptors came");
    let null = File::open("/dev/null").unwrap();
    expect(&good, &[null.as_fd()], "no userfaultfd but /dev/null");
    let raw = UserFault::open(OpenFlags::empty()).unwrap();
    expect(&good, &[raw.as_fd()], "has not been through UFFDIO_API");
    let (unmap, _) = UserFault::connect(OpenFlags::empty(), Features::EVENT_UNMAP).unwrap();
    expect(&good, &[unmap.as_fd()], "EVENT_UNMAP, which this server does not serve");

    expect(&good[..good.len() - 1], &one, "in the middle");
    expect("[{]", &one, "malformed");
    expect("hello", &one, "not a JSON array");
    expect(&format!("{good}{good}"), &one, "malformed");
    expect(&good.replace("4096", "-1"), &one, "malformed");
    let giant = format!("[{}", " ".repeat(17 << 20));
    expect(&giant, &one, "longer than 16 MiB");

    // Nothing came of any of them: no ioctl, no page, no message read.
    assert!(!map.page_entry(0).unwrap().is_present());
    assert_eq!(uffd.info().unwrap().total, 0);

    // A client that says nothing, and one that stops half-way, are not waited for.
    for part in ["", "[{\"size\":1"] {
        let mut socket = UnixStream::connect(&server.socket).unwrap();
        socket.write_all(part.as_bytes()).unwrap();
        assert!(server.expect_log("turned away").contains("within 1s"));
    }
    assert!(server.is_running());

    // A client that is as it should be is served after all that.
    let mut client = Client::start(&server, PAGES * KIB4, PageSize::KIB4, 1);
    assert_eq!(client.load(KIB4), image_word(KIB4));
    client.quit();
    let (code, log) = server.end();
    assert_eq!(code, Some(0), "{log}");
}

#[test]
fn a_handshake_of_many_regions_that_comes_in_pieces_is_taken() {
    let test = "a_handshake_of_many_regions_that_comes_in_pieces_is_taken";
    if !kernel(test) {
        return;
    }
    const REGIONS: u64 = 4000;
    let scratch = Scratch::new(test);
    let image = scratch.image(REGIONS * KIB4);
    let mut server = Server::start(&scratch, &image, &[]);
    let map = Mapping::anonymous(Len::new(REGIONS * KIB4)).unwrap();
    let (uffd, _) = UserFault::connect(OpenFlags::empty(), Features::EVENT_REMOVE).unwrap();
    uffd.register(map.span(), shims::RegisterModes::MISSING).unwrap();
    // Every page is a region, in reverse: the memory shows the file back to front.
    let regions: Vec<_> = (0..REGIONS)
        .map(|i| region(map.addr().raw() + (REGIONS - 1 - i) * KIB4, KIB4, i * KIB4, KIB4))
        .collect();
    let message = format!("[{}]", regions.join(","));
    assert!(message.len() > 256 << 10);
    let socket = UnixStream::connect(&server.socket).unwrap();
    for piece in message.as_bytes().chunks(100_000) {
        let with = if piece[0] == b'[' { vec![uffd.as_fd()] } else { vec![] };
        scm::send(&socket, piece, &with).unwrap();
    }
    server.expect_log("serving");
    assert_eq!(map.read_word(0), image_word((REGIONS - 1) * KIB4));
    assert_eq!(map.read_word((REGIONS - 1) * KIB4 + 8), image_word(8));
    drop((socket, OwnedFd::from(uffd)));
    let (code, log) = server.end();
    assert_eq!(code, Some(0), "{log}");
}
