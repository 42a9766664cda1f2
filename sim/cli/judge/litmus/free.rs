//! A program free-running on the running kernel: round after round, with delays and processors
//! drawn anew. Owns the puppets and what happens between the rounds; what a line is, is in
//! `lines.rs`.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;

use linux_raw_sys::general as sys;
use rustix::thread::{CpuSet, sched_setaffinity};
use shims::Tid;
use shims::linux::hugepages::Reservation;
use shims::linux::puppet::{Act, LINE, Line, Stage};
use sim::Content;
use sim::world::BASE;

use super::super::backend::{Unable, prepare};
use super::super::look::{Glimpse, Look};
use super::super::op::{Kind, PAGE};
use super::super::program::{Body, Doing, Program, Seen, page_text};
use super::super::puppet_arm::read_entries;
use super::super::puppet_ops::mmap_args;
use super::lines::{Deed, Ground, MAX_OPS, MAX_PAGES, MAX_TASKS, MEETING, STOP, script_at};
use super::{Ending, Table};
use crate::clock::Stopwatch;

/// How long a look at a thread that has not come back waits for it.
const LOOK: Duration = Duration::from_micros(80);
/// So many looks in a row must find threads asleep that sleep in nothing of userfaultfd's.
const STILL: u32 = 12;
/// How long a round may take until somebody is stuck.
const DEADLINE: Duration = Duration::from_secs(10);
/// After so many rounds the threads are put on other processors.
const SHUFFLE: u64 = 64;
/// How often a line may be delayed: turns of an empty loop.
const SCALES: [u64; 16] = [0, 0, 0, 0, 4, 8, 16, 16, 40, 40, 80, 80, 160, 160, 400, 1500];

/// What many rounds have shown.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The endings.
    pub table: Table,
    /// Threads that could not be brought to an end, what they were doing and where. Their
    /// processes were ended.
    pub stuck: Vec<String>,
    /// Rounds in which a thread went round in circles inside the kernel until a signal let it
    /// out, with what was to be seen until then. They count like the others.
    pub freed: Vec<String>,
}

/// Run `program` `runs` times; `progress` is told how many rounds are done.
pub fn observe(
    program: &Program,
    allowed: &BTreeSet<Ending>,
    runs: u64,
    seed: u64,
    progress: &mut dyn FnMut(u64),
) -> Result<Observed, Unable> {
    let pool = prepare(program)?;
    let mut table = Table::new(program, allowed);
    let (mut stuck, mut freed) = (Vec::new(), Vec::new());
    let mut dice = Dice(seed | 1);
    let mut theatre = Theatre::new(program, &pool)?;
    for round in 0..runs {
        if round % SHUFFLE == 0 {
            theatre.shuffle(&mut dice);
            progress(round);
        }
        let came = theatre.round(&mut dice, allowed);
        freed.extend(theatre.freed.take().map(|seen| format!("round {round}: {seen}")));
        match came {
            Ok(ending) => table.see(ending),
            Err(why) => {
                stuck.push(format!("round {round}: {why}"));
                if stuck.len() > 5 {
                    break;
                }
                theatre = Theatre::new(program, &pool)?;
            }
        }
    }
    progress(runs);
    Ok(Observed { table, stuck, freed })
}

/// Numbers that only have to be different.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn delay(&mut self) -> u64 {
        let scale = SCALES[self.below(SCALES.len() as u64) as usize];
        if scale == 0 { 0 } else { self.below(scale) }
    }
}

struct Actor {
    slot: usize,
    look: Look,
    deeds: Vec<Deed>,
    lines: u64,
}

/// The process of a program, with a thread for each task and one that sets up.
struct Theatre<'p> {
    stage: Stage,
    program: &'p Program,
    actors: Vec<Actor>,
    /// The script that stands before each round, with what it needs in the scratch memory.
    setup: Vec<Line>,
    image: Vec<(u64, Vec<u64>)>,
    uffd: u64,
    child: usize,
    pagemap: File,
    mem: File,
    /// What was to be seen of a thread that a signal let out of the kernel, in this round.
    freed: Option<String>,
}

/// The slot of the thread that sets up.
const MAIN: usize = 0;

impl<'p> Theatre<'p> {
    fn new(program: &'p Program, _: &Option<Reservation>) -> Result<Theatre<'p>, Unable> {
        let Body::Tasks(tasks) = &program.body else { unreachable!("it was enumerated") };
        let no = |what: &str| Unable(what.to_owned());
        if program.pages() > MAX_PAGES || tasks.len() > MAX_TASKS {
            return Err(Unable(format!("more than {MAX_PAGES} pages or {MAX_TASKS} tasks")));
        }
        let mut stage = Stage::new().map_err(|e| Unable(format!("no process: {e}")))?;
        let (files, stamps) = files(&stage, program).map_err(|e| Unable(format!("files: {e}")))?;
        // The lowest free number, again and again.
        let uffd = stamps + 1;
        let child = stage.vacant();
        let pieces = program.pieces();
        let mut actors = Vec::new();
        for task in tasks {
            if task.ops.len() > MAX_OPS {
                return Err(no("a task does too much"));
            }
            let slot = stage.spawn(MAIN).map_err(|e| Unable(format!("no thread: {e}")))?;
            let (pid, tid) = stage.ids(slot);
            let look = Look::new(pid, tid).map_err(|e| Unable(format!("/proc: {e}")))?;
            actors.push(Actor { slot, look, deeds: Vec::new(), lines: 0 });
        }
        let ground = Ground { stage: &stage, files: &files, pieces: &pieces, uffd, stamps, child };
        ground.fill_source(program.pages());
        let unable = |why: super::NotLitmus| Unable(why.to_string());
        for (number, (task, actor)) in tasks.iter().zip(&mut actors).enumerate() {
            for (nth, (doing, _)) in task.ops.iter().enumerate() {
                actor.deeds.push(ground.deed(number, nth, doing).map_err(unable)?);
            }
            let count: usize = actor.deeds.iter().map(|deed| deed.lines.len()).sum();
            actor.lines = count as u64 + 1;
        }
        let (mut setup, image) = setup(program, &ground).map_err(unable)?;
        setup.extend(actors[1..].iter().map(|actor| Line::Act(stage.waker(actor.slot))));
        let pid = stage.ids(MAIN).0;
        let open = |name: &str| File::open(format!("/proc/{pid}/{name}"));
        let (pagemap, mem) = open("pagemap")
            .and_then(|pagemap| Ok((pagemap, open("mem")?)))
            .map_err(|e| Unable(format!("/proc: {e}")))?;
        let freed = None;
        Ok(Theatre { stage, program, actors, setup, image, uffd, child, pagemap, mem, freed })
    }

    /// Put every thread on one processor, or on any.
    fn shuffle(&self, dice: &mut Dice) {
        for actor in &self.actors {
            let choice = dice.below(3) as usize;
            let mut set = CpuSet::new();
            for cpu in 0..2 {
                if choice == 2 || choice == cpu {
                    set.set(cpu);
                }
            }
            let tid = rustix::process::Pid::from_raw(self.stage.ids(actor.slot).1 as i32);
            // A machine with other processors lets the thread be where it is.
            let _ = sched_setaffinity(tid, &set);
        }
    }

    fn round(&mut self, dice: &mut Dice, allowed: &BTreeSet<Ending>) -> Result<Ending, String> {
        self.begin(dice);
        self.quiet(STILL)?;
        self.prepared()?;
        let mut ending = self.look();
        if !allowed.contains(&ending) {
            // Whoever seemed to be asleep may only have been slow.
            self.quiet(100 * STILL)?;
            ending = self.look();
        }
        self.release()?;
        Ok(ending)
    }

    /// The line of the task's script behind which its own begin: it meets the others there. The
    /// first task makes everything as it is at the start of a round before.
    fn meeting(&self, task: usize) -> u64 {
        if task == 0 { self.setup.len() as u64 } else { 0 }
    }

    /// Has the first task found everything in order?
    fn prepared(&self) -> Result<(), String> {
        for index in 0..self.setup.len() as u64 {
            let answer = self.stage.line(script_at(0), index);
            let bad = answer.is_none_or(|a| a.value.is_err() || a.signal.is_some());
            // The first lines clean up after a round that may have done so itself.
            if bad && index >= 3 {
                let line = self.setup[index as usize];
                return Err(format!("line {index} of the setup, {line:?}, answered {answer:?}"));
            }
        }
        Ok(())
    }

    fn put(&self, at: u64, words: &[u64]) {
        for (n, word) in (0..).zip(words) {
            self.stage.set(at + 8 * n, *word);
        }
    }

    /// Let all tasks go at once.
    fn begin(&self, dice: &mut Dice) {
        let count = self.actors.len() as u64;
        self.stage.set(STOP, 0);
        self.stage.set(MEETING, 0);
        for (at, words) in &self.image {
            self.put(*at, words);
        }
        for (index, line) in (0..).zip(&self.setup) {
            self.stage.put_line(script_at(0), index, *line, 0);
        }
        for (task, actor) in self.actors.iter().enumerate() {
            let script = script_at(task);
            let mut index = self.meeting(task);
            self.stage.put_line(script, index, Line::Barrier { at: MEETING, count }, 0);
            index += 1;
            for deed in &actor.deeds {
                for (at, words) in &deed.image {
                    self.put(*at, words);
                }
                for line in &deed.lines {
                    let line = match *line {
                        // A wait that polls for a while sees a message sooner than one that
                        // must be woken.
                        Line::SpinPoll { at, .. } => {
                            Line::SpinPoll { at, tries: [0, 4, 60][dice.below(3) as usize] }
                        }
                        line => line,
                    };
                    let delay = dice.delay();
                    self.stage.put_line(script, index, line, delay);
                    index += 1;
                }
            }
        }
        // The first task wakes the others when everything is ready.
        for (task, actor) in self.actors.iter().enumerate().rev() {
            let lines = self.meeting(task) + actor.lines;
            let script = self.stage.script(script_at(task), lines, STOP);
            match task {
                0 => self.stage.tell(actor.slot, script),
                _ => self.stage.tell_asleep(actor.slot, script),
            }
        }
    }

    /// Wait until every task is at its end or asleep in the kernel. A thread that was woken is
    /// runnable from that moment on, so one that is found asleep, and all others with it, and
    /// that has not run between two looks, stays so.
    fn quiet(&mut self, still: u32) -> Result<(), String> {
        let mut watch = Stopwatch::start();
        let mut last: Vec<Option<Glimpse>> = Vec::new();
        let mut calm = 0;
        loop {
            let mut now = Vec::new();
            let mut known = true;
            for task in 0..self.actors.len() {
                let actor = &self.actors[task];
                // One of them is waited for, the others have had as long.
                let patience = if now.is_empty() { LOOK } else { Duration::ZERO };
                if self.finished(task) || self.stage.wait(actor.slot, patience).is_some() {
                    continue;
                }
                let glimpse = actor.look.glimpse();
                if glimpse.as_ref().is_some_and(Glimpse::asleep) && !self.finished(task) {
                    let place = actor.look.place();
                    known &= ["userfault", "poll"].iter().any(|word| place.contains(word));
                }
                now.push(glimpse);
            }
            if now.is_empty() {
                return Ok(());
            }
            let asleep = now.iter().all(|g| g.as_ref().is_some_and(Glimpse::asleep));
            calm = if asleep && now == last { calm + 1 } else { 0 };
            if calm >= if known && still == STILL { 1 } else { still } {
                return Ok(());
            }
            last = now;
            if watch.elapsed() > DEADLINE {
                let then = self.whereabouts();
                let spinning = self.spinning();
                if !spinning.is_empty() && self.freed.is_none() {
                    for task in spinning {
                        let (pid, tid) = self.stage.ids(self.actors[task].slot);
                        self.stage.kill(pid, Some(tid), sys::SIGUSR1);
                    }
                    self.freed = Some(then);
                    watch = Stopwatch::start();
                    continue;
                }
                return Err(format!(
                    "neither at its end nor asleep: {then}; a second later: {}; {} have met",
                    self.whereabouts(),
                    self.stage.get(MEETING)
                ));
            }
        }
    }

    /// The tasks that do nothing, for a second, but go round in circles inside one fault: the
    /// kernel does not let them out, nor anybody else on their processor in (Z19). A signal does.
    fn spinning(&self) -> Vec<usize> {
        let ticks = || self.actors.iter().map(|actor| actor.look.ticks()).collect::<Vec<_>>();
        let before = ticks();
        let second = rustix::event::Timespec { tv_sec: 1, tv_nsec: 0 };
        let _ = rustix::event::poll(&mut [], Some(&second));
        let spins = |(before, after): (&Option<[u64; 3]>, &Option<[u64; 3]>)| {
            let (Some([faults, user, kernel]), Some(after)) = (before, after) else { return false };
            after[0] == *faults && after[1] == *user && after[2] >= kernel + 10
        };
        let spins: Vec<_> = before.iter().zip(&ticks()).map(spins).collect();
        (0..spins.len()).filter(|task| spins[*task] && !self.finished(*task)).collect()
    }

    /// Has the last line of the task been done?
    fn finished(&self, task: usize) -> bool {
        let last = self.meeting(task) + self.actors[task].lines - 1;
        self.stage.line(script_at(task), last).is_some()
    }

    /// Who has not come to an end, and where it is.
    fn whereabouts(&self) -> String {
        let names = self.program.names();
        let open = (0..self.actors.len()).filter(|task| !self.finished(*task));
        let text = open.map(|task| {
            let look = &self.actors[task].look;
            let state = look.glimpse().map_or('?', |glimpse| glimpse.state);
            let lines = self.meeting(task) + self.actors[task].lines;
            let done = (0..lines).filter(|n| self.stage.line(script_at(task), *n).is_some());
            let (done, place) = (done.count(), look.place());
            let effort = look.effort();
            format!("{} {state} in {place}, {done} of {lines} lines done, {effort}", names[task])
        });
        text.collect::<Vec<_>>().join(", ")
    }

    fn look(&self) -> Ending {
        let who =
            |tid: Tid| self.actors.iter().position(|actor| self.stage.ids(actor.slot).1 == tid.0);
        let mut results = Vec::new();
        let mut child = None;
        for (task, actor) in self.actors.iter().enumerate() {
            let mut seen = Vec::new();
            let mut index = self.meeting(task) + 1;
            for deed in &actor.deeds {
                let last = index + deed.lines.len() as u64 - 1;
                let Some(answer) = self.stage.line(script_at(task), last) else {
                    seen.push(Seen::Asleep);
                    break;
                };
                if deed.forks() {
                    child = answer.value.ok();
                }
                seen.push(deed.seen(&self.stage, &answer, &who));
                index = last + 1;
            }
            results.push(seen);
        }
        let pages = |pagemap: &File, mem: &File| {
            let entries = read_entries(pagemap, mem, self.program.pages(), &self.program.pieces());
            entries.iter().map(|(n, entry)| (*n, page_text(*n, entry))).collect()
        };
        let child = child.map(|pid| {
            // It says that it is there before anything else.
            let _ = self.stage.wait_long(self.child);
            let open = |name: &str| File::open(format!("/proc/{pid}/{name}"));
            match (open("pagemap"), open("mem")) {
                (Ok(pagemap), Ok(mem)) => pages(&pagemap, &mem),
                _ => Vec::new(),
            }
        });
        Ending { results, pages: pages(&self.pagemap, &self.mem), child }
    }

    /// Bring everybody to an end, however they sleep, and be rid of a child.
    fn release(&mut self) -> Result<(), String> {
        const RELEASE: u64 = 0x8000;
        const WORDS: u64 = 0x9800;
        let scratch = self.stage.scratch();
        self.stage.set(STOP, 1);
        let watch = Stopwatch::start();
        let slots: Vec<_> = self.actors.iter().map(|actor| actor.slot).collect();
        let mut open: Vec<usize> = Vec::new();
        for (task, slot) in slots.iter().enumerate() {
            if !self.idle(*slot) {
                open.push(task);
            }
        }
        let mut turn = 0_u32;
        while !open.is_empty() {
            // `UNREGISTER`, `WAKE`, and a read of all messages: nobody is left who waits for
            // the handler. Only then are signals sent, to those who poll.
            let whole = [BASE.raw(), self.program.pages() * PAGE];
            self.put(WORDS, &whole);
            let ioctl = |opcode| {
                Line::Act(Act::Syscall(
                    sys::__NR_ioctl,
                    [self.uffd, opcode, scratch + WORDS, 0, 0, 0],
                ))
            };
            let buffer = [self.uffd, scratch + 0x28_0000, 2048, 0, 0, 0];
            let read = Line::Act(Act::Syscall(sys::__NR_read, buffer));
            self.stage.set(STOP + 8, 0);
            // A lock that a task holds asleep would stop `UNREGISTER`, so messages go first.
            let lines = [read, ioctl(0x8010_aa02), read, ioctl(0x8010_aa01), ioctl(0x8010_aa02)];
            for (index, line) in (0..).zip(lines) {
                self.stage.put_line(RELEASE, index, line, 0);
            }
            let script = self.stage.script(RELEASE, lines.len() as u64, STOP + 8);
            if self.stage.act(MAIN, script).is_err() {
                return Err(format!("the release does not end: {}", self.whereabouts()));
            }
            open.retain(|task| {
                self.stage.wait(slots[*task], LOOK).is_none() && !self.idle(slots[*task])
            });
            for task in &open {
                let polls = self.actors[*task].look.place().contains("poll");
                if polls || turn > 20 {
                    let (pid, tid) = self.stage.ids(slots[*task]);
                    self.stage.kill(pid, Some(tid), sys::SIGUSR1);
                }
            }
            turn += 1;
            if watch.elapsed() > DEADLINE {
                return Err(format!("could not be released: {}", self.whereabouts()));
            }
        }
        self.reap()
    }

    /// Does the thread wait to be told something?
    fn idle(&self, slot: usize) -> bool {
        self.stage.is_idle(slot) || self.stage.wait(slot, Duration::ZERO).is_some()
    }

    /// End the process that a task has forked.
    fn reap(&self) -> Result<(), String> {
        for (task, actor) in self.actors.iter().enumerate() {
            let mut index = self.meeting(task) + 1;
            for deed in &actor.deeds {
                let last = index + deed.lines.len() as u64 - 1;
                index = last + 1;
                let Some(answer) = self.stage.line(script_at(task), last) else { break };
                if !deed.forks() || answer.value.is_err() {
                    continue;
                }
                let there = self.stage.ids(self.child).0 != 0 && self.stage.is_idle(self.child);
                if !there && self.stage.wait_long(self.child).is_none() {
                    return Err("the child does not arrive".to_owned());
                }
                self.stage.end_process(self.child);
            }
        }
        Ok(())
    }
}

/// The memory files of the program, and the one with stamps, which is the last.
fn files(stage: &Stage, program: &Program) -> Result<(BTreeMap<u8, u64>, u64), shims::Errno> {
    let call = |number, args| {
        stage.act(MAIN, Act::Syscall(number, args)).map_err(|_| shims::Errno::EIO)?.value
    };
    let create = |flags| {
        stage.put(0, b"litmus\0\0");
        call(sys::__NR_memfd_create, [stage.scratch(), flags, 0, 0, 0, 0])
    };
    let mut files = BTreeMap::new();
    for watched in &program.memory {
        let piece = watched.piece;
        if piece.kind != Kind::Anon && !files.contains_key(&piece.file) {
            // `MFD_HUGETLB | MFD_HUGE_2MB`.
            files.insert(piece.file, create(if piece.kind.is_huge() { 4 | 21 << 26 } else { 0 })?);
        }
    }
    let stamps = create(0)?;
    for task in 0..16_u16 {
        let stamp = Content::Written { task, seq: 0 }.stamp();
        stage.put(0, &stamp);
        let args = [stamps, stage.scratch(), stamp.len() as u64, PAGE * u64::from(task), 0, 0];
        call(sys::__NR_pwrite64, args)?;
    }
    Ok((files, stamps))
}

type Script = (Vec<Line>, Vec<(u64, Vec<u64>)>);

/// The lines before each round: away with the last one's memory and userfaultfd, and new ones.
fn setup(program: &Program, ground: &Ground<'_>) -> Result<Script, super::NotLitmus> {
    const API: u64 = 0x9900;
    const RANGES: u64 = 0x9a00;
    let scratch = ground.stage.scratch();
    let call = |number, args: [u64; 6]| Line::Act(Act::Syscall(number, args));
    let mut lines = vec![
        call(sys::__NR_alarm, [120, 0, 0, 0, 0, 0]),
        call(sys::__NR_close_range, [ground.uffd, u64::from(u32::MAX), 0, 0, 0, 0]),
        call(sys::__NR_munmap, [BASE.raw(), program.pages() * PAGE, 0, 0, 0, 0]),
    ];
    let mut image = Vec::new();
    for (number, fd) in ground.files {
        let first = program.memory.iter().map(|watched| watched.piece);
        let first = first.filter(|piece| piece.kind != Kind::Anon).find(|p| p.file == *number);
        let size = first.map_or(0, |piece| (piece.offset + piece.pages) * PAGE);
        lines.push(call(sys::__NR_ftruncate, [*fd, 0, 0, 0, 0, 0]));
        lines.push(call(sys::__NR_ftruncate, [*fd, size, 0, 0, 0, 0]));
    }
    for watched in &program.memory {
        lines.push(call(sys::__NR_mmap, mmap_args(&watched.piece, ground.files, true)));
    }
    let flags = u64::from(sys::O_CLOEXEC | sys::O_NONBLOCK) | u64::from(program.user_mode_only);
    lines.push(call(sys::__NR_userfaultfd, [flags, 0, 0, 0, 0, 0]));
    image.push((API, vec![0xaa, program.features.bits(), 0]));
    lines.push(call(sys::__NR_ioctl, [ground.uffd, 0xc018_aa3f, scratch + API, 0, 0, 0]));
    for (nth, watched) in (0..).zip(&program.memory) {
        if !watched.modes.is_empty() {
            let (at, len) = (BASE.raw() + watched.piece.at * PAGE, watched.piece.pages * PAGE);
            let place = RANGES + 32 * nth;
            image.push((place, vec![at, len, watched.modes.bits(), 0]));
            lines.push(call(sys::__NR_ioctl, [ground.uffd, 0xc020_aa00, scratch + place, 0, 0, 0]));
        }
    }
    for (nth, doing) in program.setup.iter().enumerate() {
        let deed = ground.deed(MAX_TASKS, nth, doing)?;
        if matches!(doing, Doing::Uffd(_, super::super::program::Ask::Message)) {
            return Err(super::NotLitmus("the setup cannot wait for a message".to_owned()));
        }
        lines.extend(&deed.lines);
        image.extend(deed.image);
    }
    let most = ground.script_len() / (8 * LINE) - 3 * MAX_OPS as u64 - 2;
    if lines.len() as u64 > most {
        return Err(super::NotLitmus(format!("its setup has more than {most} lines")));
    }
    Ok((lines, image))
}
