//! From text to a [`Program`]: the head, the sections and the conditions. What a thread can do
//! is in `parse_op.rs`.

use std::collections::BTreeMap;

use shims::{Features, RegisterModes};
use sim::Profile;
use sim::scenario::{HEADER, ScenarioError, Words};

use super::super::op::{Kind, Piece};
use super::parse_op::{self, Names};
use super::words::{KINDS, MODES, PROTS, WANTED, lookup, value};
use super::{Body, Clause, Condition, Expect, Program, Step, Task, Watched};

const MAX_PAGES: u64 = 1 << 16;
const MAX_TASKS: usize = 16;
const MAX_OPS: usize = 4096;

/// Does `text` ask for a scripted handler, so that it is for [`parse`]?
pub fn is_program(text: &str) -> bool {
    text.lines().any(|line| {
        let mut words = Words::new("", 1, line);
        !words.indented()
            && words.next().is_some_and(|(word, _)| word == "handler")
            && words.next().is_some_and(|(word, _)| word == "script")
    })
}

/// The program that `text` describes; `file` is named in errors.
pub fn parse(file: &str, text: &str) -> Result<Program, ScenarioError> {
    let mut parser = Parser {
        program: Program {
            name: String::new(),
            about: String::new(),
            memory: Vec::new(),
            room: 0,
            features: Features::EVENT_REMOVE,
            user_mode_only: false,
            profile: None,
            setup: Vec::new(),
            body: Body::Tasks(Vec::new()),
            conditions: Vec::new(),
        },
        seen: BTreeMap::new(),
        section: Section::Head,
        tasks: Vec::new(),
        bugs: Vec::new(),
        steps: None,
    };
    let mut lines = text.lines().enumerate().map(|(i, line)| Words::new(file, i as u32 + 1, line));
    let mut last = Words::new(file, 1, "");
    match lines.by_ref().find(|words| !words.clone().is_empty()) {
        Some(words) if words.clone().rest() == HEADER => {}
        Some(mut words) => {
            let (column, found) = (words.column(), words.rest());
            return Err(words.error(column, format!("expected `{HEADER}`, found `{found}`")));
        }
        None => return Err(last.error(1, format!("expected `{HEADER}`, found an empty file"))),
    }
    for mut words in lines {
        if !words.is_empty() {
            last = words.clone();
            parser.line(words)?;
        }
    }
    parser.finish(&last)
}

enum Section {
    Head,
    Setup,
    Task,
    Sequence,
    Condition,
}

struct Parser {
    program: Program,
    /// The line each header word was given on.
    seen: BTreeMap<String, u32>,
    section: Section,
    /// Each with the process it is a thread of.
    tasks: Vec<(Task, usize)>,
    /// Faults that the profile is given or not, when it is known.
    bugs: Vec<(String, u32, u32)>,
    steps: Option<Vec<Step>>,
}

impl Parser {
    fn line(&mut self, mut words: Words<'_>) -> Result<(), ScenarioError> {
        if words.indented() {
            return match self.section {
                Section::Head => {
                    let column = words.column();
                    let message = "expected `setup`, `task NAME` or `sequence` above this line";
                    Err(words.error(column, message))
                }
                Section::Setup => {
                    let names = self.names();
                    let doings = parse_op::doings(&mut words, &names)?;
                    words.end()?;
                    self.program.setup.extend(doings);
                    Ok(())
                }
                Section::Task => self.operation(words),
                Section::Sequence => self.step(words),
                Section::Condition => self.clause(words),
            };
        }
        let (word, column) = words.want("a keyword")?;
        match word {
            "task" => return self.task(words),
            word if let Some(wanted) = lookup(WANTED, word) => {
                words.end()?;
                self.section = Section::Condition;
                self.program.conditions.push(Condition { wanted, clauses: Vec::new() });
                return Ok(());
            }
            "memory" => {}
            _ => self.once(&words, word, column)?,
        }
        match word {
            "setup" => {
                words.end()?;
                self.section = Section::Setup;
                self.want_memory(&words)
            }
            "sequence" => {
                words.end()?;
                self.section = Section::Sequence;
                self.steps = Some(Vec::new());
                if let Some((task, _)) = self.tasks.iter().find(|(task, _)| !task.ops.is_empty()) {
                    let message = format!(
                        "a sequence says what `{}` does, so its own list must be empty",
                        task.name
                    );
                    return Err(words.error(column, message));
                }
                self.want_memory(&words)
            }
            _ if !matches!(self.section, Section::Head) => {
                let message = format!(
                    "expected `setup`, `task NAME`, `sequence`, `exists`, `never` or an indented \
                     line, found `{word}`"
                );
                Err(words.error(column, message))
            }
            _ => self.head(word, column, words),
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

    fn want_memory(&self, words: &Words<'_>) -> Result<(), ScenarioError> {
        match self.program.memory.is_empty() {
            true => Err(words.error(1, "expected `memory N pages` before this line")),
            false => Ok(()),
        }
    }

    fn names(&self) -> Names {
        Names {
            tasks: self.tasks.iter().map(|(task, _)| task.name.clone()).collect(),
            pages: self.program.pages(),
        }
    }

    fn head(&mut self, word: &str, column: u32, mut words: Words<'_>) -> Result<(), ScenarioError> {
        let program = &mut self.program;
        match word {
            "name" => {
                let column = words.column();
                words.rest().clone_into(&mut program.name);
                if program.name.is_empty() {
                    return Err(words.error(column, "expected the scenario's name"));
                }
            }
            "about" => words.rest().clone_into(&mut program.about),
            "handler" => {
                let (who, column) = words.want("`script`")?;
                if who != "script" {
                    return Err(words.error(column, format!("expected `script`, found `{who}`")));
                }
            }
            "memory" => self.memory(&mut words)?,
            "room" => program.room = words.number("a number of pages", 0, MAX_PAGES)?,
            "features" => program.features = parse_op::features(&mut words)?,
            "open" => {
                let (how, column) = words.want("`user-mode-only`")?;
                if how != "user-mode-only" {
                    let message = format!("expected `user-mode-only`, found `{how}`");
                    return Err(words.error(column, message));
                }
                program.user_mode_only = true;
            }
            "profile" => {
                let (name, column) = words.want("a kernel version")?;
                program.profile = Some(Profile::by_name(name).ok_or_else(|| {
                    let known = Profile::NAMES.join(", ");
                    words.error(column, format!("expected one of {known}, found `{name}`"))
                })?);
            }
            "bugs" => {
                while let Some((word, column)) = words.next() {
                    self.bugs.push((word.to_owned(), words.line(), column));
                    let switched = Profile::default().switch_bug(word);
                    switched.map_err(|e| words.error(column, e.to_string()))?;
                }
            }
            _ => {
                let message = format!(
                    "expected `name`, `about`, `handler`, `memory`, `room`, `features`, `open`, \
                     `profile`, `bugs`, `setup`, `task`, `sequence`, `exists` or `never`, found \
                     `{word}`"
                );
                return Err(words.error(column, message));
            }
        }
        words.end()
    }

    /// `N pages [KIND] [at P] [file F [from P]] [prot PROT] [unwatched | MODES]`.
    fn memory(&mut self, words: &mut Words<'_>) -> Result<(), ScenarioError> {
        let start = words.column();
        let pages = words.number("a number of pages", 1, MAX_PAGES)?;
        let (unit, column) = words.want("`pages`")?;
        if unit != "pages" && unit != "page" {
            return Err(words.error(column, format!("expected `pages`, found `{unit}`")));
        }
        let end = |watched: &Watched| watched.piece.at + watched.piece.pages;
        let at = self.program.memory.iter().map(end).max().unwrap_or(0);
        let mut piece = Piece::new(at, pages, Kind::Anon);
        let mut modes = RegisterModes::empty();
        let mut unwatched = false;
        while let Some((word, column)) = words.next() {
            match word {
                "at" => piece.at = words.number("a page", 0, MAX_PAGES)?,
                "file" => piece.file = words.number("a file's number", 0, 255)? as u8,
                "from" => piece.offset = words.number("a page of the file", 0, MAX_PAGES)?,
                "prot" => piece.prot = value(words, PROTS, "a protection")?,
                "unwatched" => unwatched = true,
                _ => match (lookup(KINDS, word), lookup(MODES, word)) {
                    (Some(kind), _) => piece.kind = kind,
                    (_, Some(mode)) => modes |= mode,
                    _ => {
                        let message = format!(
                            "expected a kind of memory, `at`, `file`, `from`, `prot`, `unwatched`, \
                             `missing`, `wp` or `minor`, found `{word}`"
                        );
                        return Err(words.error(column, message));
                    }
                },
            }
        }
        if modes.is_empty() && !unwatched {
            modes = RegisterModes::MISSING;
        }
        if piece.kind.is_huge()
            && [piece.pages, piece.at, piece.offset].iter().any(|n| n % 512 != 0)
        {
            let message = "huge pages come in units of 512 pages";
            return Err(words.error(start, message));
        }
        let inside = |other: &Watched| {
            other.piece.at < piece.at + piece.pages && piece.at < other.piece.at + other.piece.pages
        };
        if self.program.memory.iter().any(inside) {
            return Err(words.error(start, "two pieces of memory lie over each other"));
        }
        self.program.memory.push(Watched { piece, modes });
        Ok(())
    }

    fn task(&mut self, mut words: Words<'_>) -> Result<(), ScenarioError> {
        let (name, column) = words.want("the task's name")?;
        let mut process = 0;
        if let Some((word, column)) = words.next() {
            if word != "in" {
                let message = format!("expected `in PROCESS` or the end, found `{word}`");
                return Err(words.error(column, message));
            }
            process = words.number("a process", 0, 63)? as usize;
        }
        words.end()?;
        self.want_memory(&words)?;
        self.add_task(&words, name, column, process)?;
        self.section = Section::Task;
        Ok(())
    }

    fn add_task(
        &mut self,
        words: &Words<'_>,
        name: &str,
        column: u32,
        process: usize,
    ) -> Result<(), ScenarioError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if name.is_empty() || !name.chars().all(plain) || name == "page" {
            let message = "a task's name has letters, digits, `-` and `_` only, and is not `page`";
            return Err(words.error(column, message));
        }
        if self.tasks.iter().any(|(task, _)| task.name == name) {
            return Err(words.error(column, format!("there is a task `{name}` already")));
        }
        if self.tasks.len() == MAX_TASKS {
            return Err(words.error(column, format!("a program has at most {MAX_TASKS} tasks")));
        }
        self.tasks.push((Task { name: name.to_owned(), ops: Vec::new() }, process));
        Ok(())
    }

    fn operation(&mut self, mut words: Words<'_>) -> Result<(), ScenarioError> {
        let names = self.names();
        let doings = parse_op::doings(&mut words, &names)?;
        let expect = expectation(&mut words)?;
        let ops = &mut self.tasks.last_mut().expect("in a task").0.ops;
        ops.extend(doings.into_iter().map(|doing| (doing, expect.clone())));
        if ops.len() > MAX_OPS {
            return Err(words.error(1, format!("a task has at most {MAX_OPS} operations")));
        }
        Ok(())
    }

    /// `NAME: [OPERATION] [-> RESULT]`.
    fn step(&mut self, mut words: Words<'_>) -> Result<(), ScenarioError> {
        let (word, column) = words.want("`TASK:`")?;
        let Some(name) = word.strip_suffix(':') else {
            return Err(words.error(column, format!("expected `TASK:`, found `{word}`")));
        };
        let found = self.tasks.iter().position(|(task, _)| task.name == name);
        let task = match found {
            Some(task) => task,
            None => {
                self.add_task(&words, name, column, 0)?;
                self.tasks.len() - 1
            }
        };
        let bare = words.clone().next().is_none_or(|(word, _)| word == "->");
        let mut doings = Vec::new();
        if !bare {
            doings = parse_op::doings(&mut words, &self.names())?;
        }
        let expect = expectation(&mut words)?;
        let steps = self.steps.as_mut().expect("in a sequence");
        if bare {
            steps.push(Step { task, doing: None, expect });
        } else {
            let step = |doing| Step { task, doing: Some(doing), expect: expect.clone() };
            steps.extend(doings.into_iter().map(step));
        }
        if steps.len() > MAX_OPS {
            return Err(words.error(1, format!("a sequence has at most {MAX_OPS} steps")));
        }
        Ok(())
    }

    /// `page N STATE`, `TASK K RESULT`, `TASK asleep`.
    fn clause(&mut self, mut words: Words<'_>) -> Result<(), ScenarioError> {
        let (word, column) = words.want("`page N STATE`, `TASK K RESULT` or `TASK asleep`")?;
        let clause = if word == "page" {
            let page = words.number("a page", 0, self.program.pages().saturating_sub(1))?;
            let column = words.column();
            let state = words.rest();
            let bare = state.strip_suffix(" wp").unwrap_or(state);
            let known = ["absent", "marker", "zero", "source", "written", "bytes"];
            if !known.contains(&bare) && !bare.starts_with("source-of-") {
                let message = format!("expected what the page is like, found `{state}`");
                return Err(words.error(column, message));
            }
            Clause::Page(page, state.to_owned())
        } else {
            let task = self.tasks.iter().position(|(task, _)| task.name == word);
            let task = task.ok_or_else(|| words.error(column, format!("no task is `{word}`")))?;
            if words.clone().next().is_some_and(|(word, _)| word == "asleep") {
                words.next();
                Clause::Asleep(task)
            } else {
                let count = self.tasks[task].0.ops.len() as u64;
                let nth = words.number("the number of an operation", 1, count)? as usize - 1;
                Clause::Result(task, nth, result(&mut words)?)
            }
        };
        words.end()?;
        let condition = self.program.conditions.last_mut().expect("in a condition");
        condition.clauses.push(clause);
        Ok(())
    }

    fn finish(mut self, last: &Words<'_>) -> Result<Program, ScenarioError> {
        let missing = |what: &str| last.error(1, format!("expected {what}, found the end"));
        if self.program.name.is_empty() {
            return Err(missing("`name`"));
        }
        if self.program.memory.is_empty() {
            return Err(missing("`memory N pages`"));
        }
        if self.tasks.is_empty() {
            return Err(missing("a task or a sequence"));
        }
        if !self.bugs.is_empty() {
            let mut profile = self.program.profile.take().unwrap_or_default();
            for (word, ..) in &self.bugs {
                profile = profile.switch_bug(word).expect("it was accepted before");
            }
            self.program.profile = Some(profile);
        }
        self.program.body = match self.steps {
            Some(steps) => {
                let tasks = self.tasks.into_iter().map(|(task, process)| (task.name, process));
                Body::Sequence { tasks: tasks.collect(), steps }
            }
            None => {
                if self.tasks.iter().any(|(_, process)| *process != 0) {
                    return Err(last.error(1, "only a sequence has tasks in other processes"));
                }
                Body::Tasks(self.tasks.into_iter().map(|(task, _)| task).collect())
            }
        };
        Ok(self.program)
    }
}

/// `-> RESULT`, if it is there; then the line ends.
fn expectation(words: &mut Words<'_>) -> Result<Option<Expect>, ScenarioError> {
    let Some((arrow, column)) = words.next() else { return Ok(None) };
    if arrow != "->" {
        return Err(words.error(column, format!("expected `->` or the end, found `{arrow}`")));
    }
    result(words).map(Some)
}

/// The rest of the line as a result.
fn result(words: &mut Words<'_>) -> Result<Expect, ScenarioError> {
    let column = words.column();
    let text = words.rest().split_ascii_whitespace().collect::<Vec<_>>().join(" ");
    let message = format!(
        "expected a result such as `ok`, `ok [4096]`, `asleep`, `zero`, `source`, `written`, \
         `segv`, `bus`, `EAGAIN`, `F0r` or `REMOVE 0..1`, found `{text}`"
    );
    Expect::new(&text).ok_or_else(|| words.error(column, message))
}

/// A file's length or another number of bytes.
pub(super) fn length(words: &mut Words<'_>) -> Result<u64, ScenarioError> {
    let (word, column) = words.want("a number of bytes")?;
    let parsed = match word.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => word.parse().ok(),
    };
    let message = format!("expected a number of bytes, found `{word}`");
    parsed.ok_or_else(|| words.error(column, message))
}
