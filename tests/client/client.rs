//! A client of `faultbed serve` for the tests: a process with memory of its own that
//! speaks Firecracker's handshake and then touches, writes and drops pages as it is told.
//!
//! ```text
//! faultbed-client SOCKET SIZE PAGE REGIONS
//! ```
//!
//! maps SIZE bytes in pages of PAGE bytes, in REGIONS parts of equal size (the second one
//! at a lower address than the first, as a hot-plugged one has it), sends the handshake,
//! prints `ready` and obeys the lines of its standard input, each in a thread of its own,
//! since any of them may sleep until it is served:
//!
//! ```text
//! ID load OFFSET            -> ID 0x0123456789abcdef
//! ID digest OFFSET LEN      -> ID 0x0123456789abcdef
//! ID store OFFSET WORD      -> ID ok
//! ID populate-read OFFSET LEN, ID populate-write OFFSET LEN, ID remove OFFSET LEN
//!                           -> ID ok, or ID and an errno
//! ID present OFFSET         -> ID yes or no: is a page mapped? Causes no fault.
//! ID storm IMAGE MILLIS      -> ID ok and what was done, or ID and what went wrong: threads
//!                              that read, write and remove at random and check every word
//! ID census                  -> ID and one digit a page: 1 where a page is mapped
//! ID forget                 -> ID ok: close this process's copy of the userfaultfd
//! ```
//!
//! Offsets are those of the memory file. The end of its input ends it.

use std::fs::File;
use std::io::{BufRead, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Mutex;
use std::time::Duration;

use faultbed::stress::traffic::{self, Arena, Seat, Tally};
use shims::linux::{Mapping, OpenFlags, UserFault, scm};
use shims::wrap::Fnv;
use shims::{Errno, Features, Len, PageSize, RegisterModes, Uffd};

/// The memory: parts of equal size, in the order of the memory file.
struct Memory {
    parts: Vec<Mapping>,
    part: u64,
    uffd: Mutex<Option<UserFault>>,
}

impl Memory {
    fn new(size: u64, page: PageSize, parts: u64) -> Memory {
        let part = size / parts;
        let mut maps: Vec<_> = (0..parts)
            .map(|_| match page {
                PageSize::KIB4 => Mapping::anonymous(Len::new(part)).expect("anonymous memory"),
                _ => Mapping::hugetlb(Len::new(part)).expect("huge pages"),
            })
            .collect();
        maps.sort_by_key(|map| std::cmp::Reverse(map.addr()));
        let features = Features::EVENT_REMOVE;
        let (uffd, _) = UserFault::connect(OpenFlags::empty(), features).expect("a userfaultfd");
        for map in &maps {
            uffd.register(map.span(), RegisterModes::MISSING).expect("registration");
        }
        Memory { parts: maps, part, uffd: Mutex::new(Some(uffd)) }
    }

    fn handshake(&self, page: PageSize) -> String {
        let regions: Vec<_> = self
            .parts
            .iter()
            .enumerate()
            .map(|(index, map)| {
                format!(
                    r#"{{"base_host_virt_addr":{},"size":{},"offset":{},"page_size":{page},"page_size_kib":{page}}}"#,
                    map.addr().raw(),
                    map.len().bytes(),
                    index as u64 * self.part,
                    page = page.bytes(),
                )
            })
            .collect();
        format!("[{}]", regions.join(","))
    }

    /// The part that holds `offset`, and where in it.
    fn find(&self, offset: u64) -> (&Mapping, u64) {
        (&self.parts[(offset / self.part) as usize], offset % self.part)
    }

    /// Carry out one command.
    fn obey(&self, words: &[&str]) -> String {
        let number = |index: usize| {
            let word: &str = words[index];
            match word.strip_prefix("0x") {
                Some(hex) => u64::from_str_radix(hex, 16).expect("a number"),
                None => word.parse().expect("a number"),
            }
        };
        let done = |answer: Result<(), Errno>| match answer {
            Ok(()) => "ok".to_owned(),
            Err(errno) => format!("{errno:?}"),
        };
        match words {
            ["forget"] => {
                drop(self.uffd.lock().expect("no thread panics with it").take());
                return "ok".into();
            }
            ["storm", image, millis] => {
                let image = File::open(image).expect("an image");
                return storm(&self.parts[0], &image, millis.parse().expect("a number"));
            }
            ["census"] => return self.parts.iter().map(census).collect(),
            _ => {}
        }
        let (map, offset) = self.find(number(1));
        match words[0] {
            "load" => format!("{:#018x}", map.read_word(offset)),
            "digest" => {
                let mut bytes = vec![0; number(2) as usize];
                map.read_into(offset, &mut bytes);
                format!("{:#018x}", Fnv::of(&bytes))
            }
            "store" => {
                map.write_word(offset, number(2));
                "ok".into()
            }
            "populate-read" => done(map.populate_read(offset, number(2))),
            "populate-write" => done(map.populate_write(offset, number(2))),
            "remove" => done(map.dontneed(offset, number(2))),
            "present" => match map.page_entry(offset).expect("the page table").is_present() {
                true => "yes".into(),
                false => "no".into(),
            },
            other => panic!("no such command: {other}"),
        }
    }
}

/// One digit for each page of `map`.
fn census(map: &Mapping) -> String {
    let base = PageSize::KIB4;
    let table = map.page_entries(0, map.len().whole_pages(base)).expect("the page table");
    let step = (map.page_size().bytes() / base.bytes()) as usize;
    table.iter().step_by(step).map(|entry| if entry.is_present() { '1' } else { '0' }).collect()
}

/// Three threads that read and write, one that removes, for so many milliseconds.
fn storm(map: &Mapping, image: &File, millis: u64) -> String {
    let arena = Arena::new(map, image, 16);
    let seats: Vec<_> = (0..4).map(|index| Seat::new(format!("storm-{index}"))).collect();
    let tally = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..)
            .zip(&seats)
            .map(|(seed, seat)| {
                let arena = &arena;
                scope.spawn(move || match seed {
                    0 => traffic::remove(arena, seat, seed, Duration::from_micros(500)),
                    _ => traffic::access(arena, seat, seed),
                })
            })
            .collect();
        arena.halt.sleep(Duration::from_millis(millis));
        arena.halt.ask();
        let mut all = Tally::new();
        threads.into_iter().for_each(|thread| all.add(&thread.join().expect("no panic")));
        all
    });
    match arena.take_trouble() {
        Some(trouble) => trouble.to_string(),
        None => format!("ok {} {} {}", tally.reads, tally.writes, tally.pages_removed),
    }
}

pub(crate) fn main() {
    let args: Vec<_> = std::env::args().collect();
    let number = |index: usize| args[index].parse::<u64>().expect("a number");
    let page = PageSize::from_bytes(number(3)).expect("a page size");
    let memory = Memory::new(number(2), page, number(4));
    let socket = UnixStream::connect(&args[1]).expect("a server");
    {
        let uffd = memory.uffd.lock().expect("nobody else is here yet");
        let fd = uffd.as_ref().expect("it is open").as_fd();
        scm::send(&socket, memory.handshake(page).as_bytes(), &[fd]).expect("a connection");
    }
    println!("ready");
    let say = |line: String| {
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "{line}").and_then(|()| out.flush());
    };
    std::thread::scope(|scope| {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { break };
            let (memory, say) = (&memory, &say);
            scope.spawn(move || {
                let words: Vec<_> = line.split_ascii_whitespace().collect();
                let answer = memory.obey(&words[1..]);
                say(format!("{} {answer}", words[0]));
            });
        }
        // Threads may sleep for a page that nobody will bring: end without them. The
        // socket closes with the process, which is how the server learns of its end.
        std::process::exit(0);
    });
}
