//! From text to a [`Setup`]. Everything is checked here, so that a world made from a parsed
//! scenario cannot be malformed.

use std::collections::BTreeMap;

use shims::{Errno, Features, RegisterModes};

use super::memory::{self, page_or_range, range};
use super::mishaps::{mishaps, patience};
use super::words::{ScenarioError, Words};
use crate::profile::Profile;
use crate::vma::Prot;
use crate::world::{
    Check, ContentClass, Control, Expect, Finally, Injection, Memory, Mishap, Mishaps, Op,
    Patience, Program, Setup,
};

const MAX_PAGES: u64 = 1 << 20;
const MAX_TASKS: usize = 24;
const MAX_WORKERS: u64 = 16;
const MAX_OPS: usize = 4096;

/// The scenario that `text` describes; `file` is named in errors.
pub fn parse(file: &str, text: &str) -> Result<Setup, ScenarioError> {
    let mut parser = Parser {
        setup: Setup {
            name: String::new(),
            about: String::new(),
            pages: 0,
            room: 0,
            memory: Memory::Anon,
            filled: false,
            features: Features::EVENT_REMOVE,
            modes: RegisterModes::MISSING,
            workers: 1,
            profile: Profile::default(),
            programs: Vec::new(),
            labels: Vec::new(),
            finally: Vec::new(),
            mishaps: Mishaps::default(),
            patience: Patience::default(),
        },
        seen: BTreeMap::new(),
        section: Section::Head,
        labels: BTreeMap::new(),
        forks: BTreeMap::new(),
    };
    let mut lines = text.lines().enumerate().map(|(i, line)| Words::new(file, i as u32 + 1, line));
    let header = lines.find(|words| !words.clone().is_empty());
    match header {
        Some(mut words) => {
            let column = words.column();
            let found = words.rest();
            if found != super::HEADER {
                let message = format!("expected `{}`, found `{found}`", super::HEADER);
                return Err(words.error(column, message));
            }
        }
        None => {
            let message = format!("expected `{}`, found an empty file", super::HEADER);
            return Err(Words::new(file, 1, "").error(1, message));
        }
    }
    let mut last = 1;
    for mut words in lines {
        last = words.line();
        if !words.is_empty() {
            parser.line(words)?;
        }
    }
    parser.finish(&Words::new(file, last, ""))
}

enum Section {
    Head,
    Task,
    Finally,
}

struct Label {
    number: u8,
    posted: bool,
    /// First `await` of it: line and column.
    awaited: Option<(u32, u32)>,
}

struct Parser {
    setup: Setup,
    /// The line each header word was given on.
    seen: BTreeMap<String, u32>,
    section: Section,
    labels: BTreeMap<String, Label>,
    /// Tasks that are forked: their place among these, and where they are named.
    forks: BTreeMap<String, (usize, (u32, u32))>,
}

impl Parser {
    fn line(&mut self, mut words: Words<'_>) -> Result<(), ScenarioError> {
        if words.indented() {
            return match self.section {
                Section::Task => self.operation(words),
                Section::Finally => self.finally(words),
                Section::Head => {
                    let column = words.column();
                    Err(words.error(column, "expected `task NAME` or `finally` above this line"))
                }
            };
        }
        let (word, column) = words.want("a keyword")?;
        match word {
            "task" => self.task(words),
            "finally" => {
                words.end()?;
                self.once(&words, word, column)?;
                self.section = Section::Finally;
                Ok(())
            }
            _ => {
                if !matches!(self.section, Section::Head) {
                    let message = format!(
                        "expected `task NAME`, `finally` or an indented line, found `{word}`"
                    );
                    return Err(words.error(column, message));
                }
                self.once(&words, word, column)?;
                self.head(word, column, words)
            }
        }
    }

    fn once(&mut self, words: &Words<'_>, word: &str, column: u32) -> Result<(), ScenarioError> {
        match self.seen.insert(word.to_owned(), words.line()) {
            None => Ok(()),
            Some(line) => {
                Err(words.error(column, format!("`{word}` was given already, on line {line}")))
            }
        }
    }

    fn head(&mut self, word: &str, column: u32, mut words: Words<'_>) -> Result<(), ScenarioError> {
        let setup = &mut self.setup;
        match word {
            "name" => {
                let column = words.column();
                words.rest().clone_into(&mut setup.name);
                if setup.name.is_empty() {
                    return Err(words.error(column, "expected the scenario's name"));
                }
            }
            "about" => words.rest().clone_into(&mut setup.about),
            "memory" => {
                setup.pages = words.number("a number of pages", 1, MAX_PAGES)?;
                let (unit, column) = words.want("`pages`")?;
                if unit != "pages" && unit != "page" {
                    return Err(words.error(column, format!("expected `pages`, found `{unit}`")));
                }
                memory::parse_memory(&mut words, setup)?;
            }
            "room" => setup.room = words.number("a number of pages", 0, MAX_PAGES)?,
            "features" => {
                setup.features = Features::empty();
                while let Some((word, column)) = words.next() {
                    setup.features |= match word {
                        "remove" => Features::EVENT_REMOVE,
                        "unmap" => Features::EVENT_UNMAP,
                        "remap" => Features::EVENT_REMAP,
                        "fork" => Features::EVENT_FORK,
                        "thread-id" => Features::THREAD_ID,
                        "none" => Features::empty(),
                        _ => {
                            let message = format!(
                                "expected `remove`, `unmap`, `remap`, `fork`, `thread-id` or `none`, \
                                 found `{word}`"
                            );
                            return Err(words.error(column, message));
                        }
                    };
                }
            }
            "workers" => {
                setup.workers = words.number("a number of workers", 1, MAX_WORKERS)? as usize;
            }
            "profile" => {
                let (name, column) = words.want("a kernel version")?;
                let mut profile = Profile::by_name(name).ok_or_else(|| {
                    let known = Profile::NAMES.join(", ");
                    words.error(column, format!("expected one of {known}, found `{name}`"))
                })?;
                // The faults may have been named before.
                for word in setup.profile.bug_words() {
                    profile = profile.switch_bug(&word).expect("it was accepted before");
                }
                setup.profile = profile;
            }
            // A file with a script has another grammar, and does not come here.
            "handler" => {
                let (found, column) = words.want("`script`")?;
                let message = format!(
                    "expected `script`, found `{found}`; without this line the handler is \
                     faultbed's own"
                );
                return Err(words.error(column, message));
            }
            "mishaps" => setup.mishaps = mishaps(&mut words)?,
            "patience" => setup.patience = patience(&mut words)?,
            "bugs" => {
                while let Some((word, column)) = words.next() {
                    let profile = setup.profile.clone().switch_bug(word);
                    setup.profile = profile.map_err(|e| words.error(column, e.to_string()))?;
                }
            }
            _ => {
                let message = format!(
                    "expected `name`, `about`, `memory`, `room`, `features`, `workers`, `profile`, \
                     `bugs`, `mishaps`, `patience`, `handler script`, `task` or `finally`, found `{word}`"
                );
                return Err(words.error(column, message));
            }
        }
        words.end()
    }

    fn task(&mut self, mut words: Words<'_>) -> Result<(), ScenarioError> {
        let (name, column) = words.want("the task's name")?;
        let beside = memory::beside(&mut words, &self.setup)?;
        words.end()?;
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if !name.chars().all(plain) {
            let message = "a task's name has letters, digits, `-` and `_` only";
            return Err(words.error(column, message));
        }
        if self.setup.programs.iter().any(|program| program.name == name) {
            return Err(words.error(column, format!("there is a task `{name}` already")));
        }
        if RESERVED.contains(&name) || name.starts_with("worker") || name.starts_with("mishap-") {
            return Err(words.error(column, format!("`{name}` is the name of another actor")));
        }
        if self.setup.programs.len() == MAX_TASKS {
            return Err(words.error(column, format!("a scenario has at most {MAX_TASKS} tasks")));
        }
        if self.setup.pages == 0 {
            return Err(words.error(1, "expected `memory N pages` before the first task"));
        }
        self.section = Section::Task;
        let forked = self.forks.contains_key(name);
        if forked && beside {
            let message = format!("`{name}` is forked, and so in a process of its own");
            return Err(words.error(column, message));
        }
        let (name, ops, lines) = (name.to_owned(), Vec::new(), Vec::new());
        let program = Program { name, forked, beside, ops, lines };
        self.setup.programs.push(program);
        Ok(())
    }

    fn operation(&mut self, mut words: Words<'_>) -> Result<(), ScenarioError> {
        let (word, column) = words.want("an operation")?;
        let pages = self.setup.slots();
        let mut ops = Vec::new();
        match word {
            "read" => {
                let (start, end) = page_or_range(&mut words, pages)?;
                let expect = expectation(&mut words)?;
                ops.extend((start..end).map(|page| Op::Read { page, expect }));
            }
            "write" => {
                let (start, end) = page_or_range(&mut words, pages)?;
                let expect = expectation(&mut words)?;
                ops.extend((start..end).map(|page| Op::Write { page, expect }));
            }
            "populate-read" | "populate-write" => {
                let range = range(&mut words, &self.setup)?;
                let write = word == "populate-write";
                ops.push(Op::Populate { range, write, expect: expectation(&mut words)? });
            }
            "dontneed" => {
                let range = range(&mut words, &self.setup)?;
                ops.push(Op::DontNeed { range, expect: expectation(&mut words)? });
            }
            "munmap" => {
                let range = range(&mut words, &self.setup)?;
                ops.push(Op::Munmap { range, expect: expectation(&mut words)? });
            }
            "mremap" => {
                let range = range(&mut words, &self.setup)?;
                let last = pages - range.len.whole_pages(self.setup.memory.page_size());
                let to = words.number("the page to move to", 0, last)?;
                let dontunmap = words.clone().next().is_some_and(|(word, _)| word == "dontunmap");
                if dontunmap {
                    words.next();
                }
                let expect = expectation(&mut words)?;
                ops.push(Op::Mremap { range, to, dontunmap, expect });
            }
            "fork" if self.setup.memory.is_shared() => {
                let message =
                    "a child shares this memory with its parent: `fork` is for private memory";
                return Err(words.error(column, message));
            }
            "fork" => ops.push(self.fork(&mut words)?),
            "mprotect" => {
                let range = range(&mut words, &self.setup)?;
                let (word, column) = words.want("`none`, `r` or `rw`")?;
                let prot = match word {
                    "none" => Prot::NONE,
                    "r" => Prot::READ,
                    "rw" => Prot::RW,
                    _ => {
                        let message = format!("expected `none`, `r` or `rw`, found `{word}`");
                        return Err(words.error(column, message));
                    }
                };
                ops.push(Op::Mprotect { range, prot, expect: expectation(&mut words)? });
            }
            "register" => {
                let range = range(&mut words, &self.setup)?;
                ops.push(Op::Register { range, expect: expectation(&mut words)? });
            }
            "unregister" => {
                let range = range(&mut words, &self.setup)?;
                ops.push(Op::Unregister { range, expect: expectation(&mut words)? });
            }
            "close" => ops.push(Op::Close),
            "post" => ops.push(Op::Post(self.label(&mut words, true)?)),
            "await" => ops.push(Op::Await(self.label(&mut words, false)?)),
            "pause" => ops.push(Op::Control(Control::Pause)),
            "resume" => ops.push(Op::Control(Control::Resume)),
            "snapshot" => {
                ops.push(Op::Control(Control::BeginSnapshot));
                ops.push(Op::Control(Control::Snapshot));
            }
            "baseline" => {
                if !self.setup.tracks_writes() {
                    let message = "a baseline needs memory that is watched for writes: `memory N \
                                   pages missing wp`";
                    return Err(words.error(column, message));
                }
                ops.push(Op::Control(Control::BeginBaseline));
                ops.push(Op::Control(Control::Export));
                ops.push(Op::Control(match words.next() {
                    None => Control::Baseline,
                    Some(("cancelled", _)) => Control::Cancel,
                    Some((word, column)) => {
                        let message = format!("expected `cancelled` or the end, found `{word}`");
                        return Err(words.error(column, message));
                    }
                }));
            }
            "inject" => ops.push(Op::Inject(injection(&mut words)?)),
            _ => match memory::operation(word, column, &mut words, &self.setup)? {
                Some(op) => ops.push(op),
                None => {
                    let message = format!(
                        "expected an operation (read, write, populate-read, populate-write, \
                         dontneed, {}, munmap, mremap, fork, mprotect, register, unregister, \
                         close, post, await, pause, resume, snapshot, baseline, inject), found \
                         `{word}`",
                        memory::WORDS
                    );
                    return Err(words.error(column, message));
                }
            },
        }
        words.end()?;
        let program = self.setup.programs.last_mut().expect("operations stand below a task");
        if program.ops.len() + ops.len() > MAX_OPS {
            return Err(words.error(column, format!("a task has at most {MAX_OPS} operations")));
        }
        program.lines.extend(ops.iter().map(|_| words.line()));
        program.ops.append(&mut ops);
        Ok(())
    }

    fn label(&mut self, words: &mut Words<'_>, post: bool) -> Result<u8, ScenarioError> {
        let (name, column) = words.want("a label")?;
        let next = self.labels.len();
        if next == 64 && !self.labels.contains_key(name) {
            return Err(words.error(column, "a scenario has at most 64 labels"));
        }
        let label = self.labels.entry(name.to_owned()).or_insert_with(|| {
            self.setup.labels.push(name.to_owned());
            Label { number: next as u8, posted: false, awaited: None }
        });
        if post {
            label.posted = true;
        } else if label.awaited.is_none() {
            label.awaited = Some((words.line(), column));
        }
        Ok(label.number)
    }

    /// The names of the tasks that begin in a new process; they stand further down.
    fn fork(&mut self, words: &mut Words<'_>) -> Result<Op, ScenarioError> {
        let mut names = Vec::new();
        while let Some((name, column)) = words.clone().next().filter(|(word, _)| *word != "->") {
            words.next();
            if self.setup.programs.iter().any(|program| program.name == name) {
                let message = format!("`{name}` stands above: a task is forked before it begins");
                return Err(words.error(column, message));
            }
            let number = self.forks.len();
            let place = (words.line(), column);
            if self.forks.insert(name.to_owned(), (number, place)).is_some() {
                return Err(words.error(column, format!("`{name}` is forked already")));
            }
            names.push(number);
        }
        if names.is_empty() {
            let column = words.column();
            return Err(words.error(column, "expected the tasks that begin in the new process"));
        }
        Ok(Op::Fork { tasks: names, expect: expectation(words)? })
    }

    fn finally(&mut self, mut words: Words<'_>) -> Result<(), ScenarioError> {
        let (pages, slots) = (self.setup.pages, self.setup.slots());
        let (word, column) = words.want("`page`, `state` or `handler`")?;
        let check = match word {
            "page" => {
                let page = words.number("a page", 0, slots.saturating_sub(1))?;
                let (word, column) = words.want("`zero`, `source`, `written` or `absent`")?;
                match word {
                    "absent" => Check::Absent(page),
                    word => match class(word) {
                        Some(class) => Check::Holds(page, class),
                        None => {
                            let message = format!(
                                "expected `zero`, `source`, `written` or `absent`, found `{word}`"
                            );
                            return Err(words.error(column, message));
                        }
                    },
                }
            }
            "state" => {
                let page = words.number("a page", 0, pages.saturating_sub(1))?;
                let (name, column) = words.want("a state")?;
                if !STATES.contains(&name) {
                    let message = format!("expected one of {}, found `{name}`", STATES.join(", "));
                    return Err(words.error(column, message));
                }
                Check::State(page, name.to_owned())
            }
            "handler" => {
                let (word, column) = words.want("`failed`")?;
                if word != "failed" {
                    return Err(words.error(column, format!("expected `failed`, found `{word}`")));
                }
                Check::HandlerFailed
            }
            _ => {
                let message = format!("expected `page`, `state` or `handler`, found `{word}`");
                return Err(words.error(column, message));
            }
        };
        words.end()?;
        self.setup.finally.push(Finally { line: words.line(), check });
        Ok(())
    }

    fn finish(mut self, end: &Words<'_>) -> Result<Setup, ScenarioError> {
        let mut tasks = vec![0; self.forks.len()];
        for (name, (number, (line, column))) in &self.forks {
            let found = self.setup.programs.iter().position(|program| program.name == *name);
            let Some(found) = found else {
                let mut error = end.error(*column, format!("there is no task `{name}`"));
                error.line = *line;
                return Err(error);
            };
            tasks[*number] = found;
        }
        for op in self.setup.programs.iter_mut().flat_map(|program| &mut program.ops) {
            if let Op::Fork { tasks: numbers, .. } = op {
                numbers.iter_mut().for_each(|number| *number = tasks[*number]);
            }
        }
        let mortal = |mishap| self.setup.mishaps.times(mishap) > 0;
        if !self.forks.is_empty() && (mortal(Mishap::Death) || mortal(Mishap::Shutdown)) {
            let message = "processes that fork are neither killed nor left by their handler";
            let mut error = end.error(1, message);
            error.line = self.seen.get("mishaps").copied().unwrap_or(error.line);
            return Err(error);
        }
        for (name, label) in &self.labels {
            if let Some((line, column)) = label.awaited
                && !label.posted
            {
                let mut error = end.error(column, format!("nobody posts `{name}`"));
                error.line = line;
                return Err(error);
            }
        }
        if self.setup.name.is_empty() {
            return Err(end.error(1, "expected `name NAME` in the scenario's head"));
        }
        if self.setup.pages == 0 {
            return Err(end.error(1, "expected `memory N pages` in the scenario's head"));
        }
        memory::check(&self.setup).map_err(|message| end.error(1, message))?;
        if self.setup.programs.is_empty() {
            return Err(end.error(1, "expected at least one `task`"));
        }
        Ok(self.setup)
    }
}

/// Names that schedules use for other actors.
const RESERVED: &[&str] = &["clock", "reader", "handler", "kernel"];

/// The page states a scenario can ask a handler about.
const STATES: &[&str] = &["missing", "clean", "dirty", "zero", "removed", "poisoned"];

fn class(word: &str) -> Option<ContentClass> {
    match word {
        "zero" => Some(ContentClass::Zero),
        "source" => Some(ContentClass::Source),
        "written" => Some(ContentClass::Written),
        _ => None,
    }
}

/// `-> RESULT`, if it is there.
pub(super) fn expectation(words: &mut Words<'_>) -> Result<Option<Expect>, ScenarioError> {
    let Some((arrow, column)) = words.next() else { return Ok(None) };
    if arrow != "->" {
        return Err(words.error(column, format!("expected `->` or the end, found `{arrow}`")));
    }
    let (word, column) = words.want("a result")?;
    let expect = match word {
        "ok" => Expect::Ok,
        "segv" => Expect::Segv,
        "sigbus" => Expect::Sigbus,
        word => match (class(word), Errno::from_name(word)) {
            (Some(class), _) => Expect::Content(class),
            (None, Some(errno)) => Expect::Errno(errno),
            (None, None) => {
                let message = format!(
                    "expected `ok`, `segv`, `sigbus`, `zero`, `source`, `written` or an errno such \
                     as `ENOMEM`, found `{word}`"
                );
                return Err(words.error(column, message));
            }
        },
    };
    Ok(Some(expect))
}

fn injection(words: &mut Words<'_>) -> Result<Injection, ScenarioError> {
    let (word, column) = words.want("`eof`, `error` or `message`")?;
    match word {
        "eof" => Ok(Injection::Eof),
        "error" => {
            let (name, column) = words.want("an errno")?;
            Errno::from_name(name).map(Injection::Error).ok_or_else(|| {
                words.error(column, format!("expected an errno such as `EBADF`, found `{name}`"))
            })
        }
        "message" => {
            let code = words.number("a message code", 1, 255)?;
            Ok(Injection::UnknownEvent(code as u8))
        }
        _ => {
            let message = format!("expected `eof`, `error` or `message`, found `{word}`");
            Err(words.error(column, message))
        }
    }
}

#[cfg(test)]
mod tests;
