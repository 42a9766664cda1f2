//! Small worlds drawn at random: what nobody has thought of. Owns the texts and the choice of a
//! handler for each.

use rand::rngs::ChaCha8Rng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

/// What a world is about: which operations it draws.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Theme {
    /// Accesses, populating and removals of private memory.
    Plain,
    /// The same, watched for writes.
    Watched,
    /// Snapshots, baselines and pauses.
    Asked,
    /// Operations that change what is mapped or watched.
    Changing,
    /// Memory of files, with a process beside.
    Shared,
    /// Forks.
    Forked,
    /// Mishaps and messages.
    Mishaps,
    /// Kernels with faults.
    Kernels,
}

impl Theme {
    pub const ALL: [Theme; 8] = [
        Theme::Plain,
        Theme::Watched,
        Theme::Asked,
        Theme::Changing,
        Theme::Shared,
        Theme::Forked,
        Theme::Mishaps,
        Theme::Kernels,
    ];
}

struct Draw {
    random: ChaCha8Rng,
    theme: Theme,
    pages: u64,
    room: bool,
    shared: bool,
    /// Who posts a label and who awaits it.
    label: Option<(usize, usize)>,
}

/// A world without its head line; it may be one that a scenario cannot be.
pub fn world(seed: u64, theme: Theme) -> String {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let pages = if random.random_bool(0.6) { 1 } else { 2 };
    let tasks = if random.random_bool(0.8) { 2 } else { 3 };
    let label = random.random_bool(0.25).then(|| {
        let by = random.random_range(0..tasks);
        (by, (by + random.random_range(1..tasks)) % tasks)
    });
    let mut draw = Draw { random, theme, pages, room: false, shared: false, label };
    let mut text = draw.head();
    for task in 0..tasks {
        text += &draw.task(task);
    }
    text
}

impl Draw {
    fn often(&mut self, chance: f64) -> bool {
        self.random.random_bool(chance)
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of.choose(&mut self.random).expect("there is one")
    }

    fn head(&mut self) -> String {
        let rarely = self.often(0.15);
        let memory = match self.theme {
            Theme::Watched => self.one(&["missing wp", "missing wp", "missing wp", "wp"]),
            Theme::Asked => self.one(&["", "", "missing wp"]),
            Theme::Shared => {
                let all = ["shmem", "shmem", "shmem missing wp", "shmem minor filled"];
                let rare = ["shmem minor missing", "shmem-private", "hugetlb", "hugetlb-private"];
                if self.often(0.6) { self.one(&all) } else { self.one(&rare) }
            }
            _ if rarely => "missing wp",
            _ => "",
        };
        self.shared = ["shmem", "hugetlb"].iter().any(|kind| memory.split(' ').any(|w| w == *kind));
        let mut text = format!("memory {} pages {memory}\n", self.pages);
        if self.often(0.4) {
            text += "workers 2\n";
        }
        let features = match self.theme {
            Theme::Changing => {
                ["", "none", "remove unmap", "remove unmap remap", "unmap", "remove remap"]
            }
            Theme::Forked => ["", "none", "fork", "remove fork", "remove fork", "fork unmap"],
            _ => ["", "", "", "", "none", "remove thread-id"],
        };
        let features = self.one(&features);
        if !features.is_empty() {
            text += &format!("features {features}\n");
        }
        if self.theme == Theme::Changing && self.often(0.4) {
            self.room = true;
            text += "room 1\n";
        }
        if self.theme == Theme::Mishaps {
            const KINDS: [&str; 12] = [
                "lull",
                "eintr",
                "eagain",
                "enomem",
                "short-batch",
                "spurious",
                "source-late",
                "source-error",
                "source-short",
                "shutdown",
                "death",
                "panic",
            ];
            let kind = self.one(&KINDS);
            text += &format!("mishaps {kind}\n");
        }
        if self.theme == Theme::Kernels {
            const KINDS: [&str; 12] = [
                "profile 5.7",
                "profile 5.13",
                "profile 5.15",
                "profile 6.1",
                "profile 6.6",
                "profile 6.12",
                "bugs Z14",
                "bugs Z2",
                "bugs Z3",
                "bugs Z5",
                "bugs Z1",
                "bugs Z4",
            ];
            let kind = self.one(&KINDS);
            text += &format!("{kind}\n");
        }
        text
    }

    fn task(&mut self, task: usize) -> String {
        let name = ["a", "b", "c"][task];
        let forks = self.theme == Theme::Forked && task == 0;
        let beside = self.shared && task > 0 && self.often(0.2);
        let mut text = format!("task {name}{}\n", if beside { " beside" } else { "" });
        let count = self.random.random_range(1..=if task == 0 { 3 } else { 2 });
        let at = self.random.random_range(0..=count);
        for op in 0..=count {
            if op == at {
                match self.label {
                    Some((by, _)) if by == task => text += " post x\n",
                    Some((_, to)) if to == task => text += " await x\n",
                    _ => {}
                }
                if forks {
                    text += " fork z\n";
                }
            }
            if op < count {
                text += &format!(" {}\n", self.op());
            }
        }
        if forks {
            text += "task z\n";
            for _ in 0..self.random.random_range(1..=2) {
                text += &format!(" {}\n", self.op());
            }
        }
        text
    }

    fn page(&mut self) -> u64 {
        self.random.random_range(0..self.pages)
    }

    fn range(&mut self) -> String {
        if self.pages == 2 && self.often(0.4) { "0..2".to_owned() } else { self.page().to_string() }
    }

    fn op(&mut self) -> String {
        if self.often(0.55) {
            return self.access();
        }
        let range = self.range();
        let speaks = self.often(0.4);
        let other = match self.theme {
            Theme::Plain | Theme::Watched | Theme::Forked | Theme::Kernels => "dontneed",
            Theme::Asked => {
                let asks = ["snapshot", "snapshot", "baseline", "baseline cancelled", "pause"];
                match self.one(&asks) {
                    _ if speaks => "dontneed",
                    "pause" => return "pause\n resume".to_owned(),
                    ask => return ask.to_owned(),
                }
            }
            Theme::Changing => match self.one(&[
                "dontneed",
                "dontneed",
                "munmap",
                "mremap",
                "mprotect",
                "register",
                "unregister",
                "close",
                "guard",
                "unguard",
                "free",
                "pageout",
                "cold",
                "collapse",
            ]) {
                "mremap" if self.room => {
                    let keep = self.one(&["", " dontunmap"]);
                    return format!("mremap 0..1 {}{keep}", self.pages);
                }
                "mremap" => "munmap",
                "mprotect" => {
                    return format!("mprotect {range} {}", self.one(&["none", "r", "rw"]));
                }
                "close" => return "close".to_owned(),
                op => op,
            },
            Theme::Shared => {
                match self.one(&["dontneed", "dontneed", "remove", "punch", "truncate"]) {
                    "truncate" => return format!("truncate {}", self.page()),
                    op => op,
                }
            }
            Theme::Mishaps if speaks => {
                return self
                    .one(&["inject eof", "inject error EIO", "inject message 77"])
                    .to_owned();
            }
            Theme::Mishaps => "dontneed",
        };
        format!("{other} {range}")
    }

    fn access(&mut self) -> String {
        let op = match self.random.random_range(0..8) {
            0..4 => "read",
            4..6 => "write",
            6 => "populate-read",
            _ => "populate-write",
        };
        let range = if op.starts_with('p') { self.range() } else { self.page().to_string() };
        let result = match self.random.random_range(0..8) {
            0 if op == "read" => " -> source",
            1 if op == "read" => " -> zero",
            2 if op == "read" => " -> written",
            3 => " -> ok",
            _ => "",
        };
        format!("{op} {range}{result}")
    }
}
