//! What comes of a thing that is done, as a value and as text. Owns the words for results.

use core::fmt;

use shims::{Errno, Outcome};
use sim::Content;

use super::super::arm::Entry;
use super::super::op::Back;

/// What came of one thing that was done.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Seen {
    /// Success that says nothing more.
    Done,
    /// A load read something of this kind: `zero`, `source`, `written` or `bytes`.
    Loaded(&'static str),
    /// The access raised `SIGSEGV`: nothing is mapped there.
    MapErr,
    /// The access raised `SIGSEGV`: the protection forbids it.
    AccErr,
    /// The access raised `SIGBUS`.
    Bus,
    /// A call failed.
    Err(Errno),
    /// A resolving ioctl answered.
    Outcome(Outcome),
    /// A read brought these messages.
    Messages(Vec<String>),
    /// `poll` reported these bits.
    Bits(u16),
    /// `fork` has made that process, or something was opened or copied under that number.
    Number(usize),
    /// The thread is no more.
    Killed,
    /// It sleeps.
    Asleep,
    /// It neither sleeps nor comes back.
    Spinning,
}

impl From<Back> for Seen {
    fn from(back: Back) -> Seen {
        match back {
            Back::Loaded(content) => Seen::Loaded(content_text(content)),
            Back::Done => Seen::Done,
            Back::MapErr => Seen::MapErr,
            Back::AccErr => Seen::AccErr,
            Back::Bus => Seen::Bus,
            Back::Err(errno) => Seen::Err(errno),
            Back::Forked(process) => Seen::Number(process),
            Back::Read(count) => Seen::Number(count),
            Back::Killed => Seen::Killed,
        }
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Seen::Done => f.write_str("ok"),
            Seen::Loaded(kind) => f.write_str(kind),
            Seen::MapErr => f.write_str("segv-maperr"),
            Seen::AccErr => f.write_str("segv-accerr"),
            Seen::Bus => f.write_str("bus"),
            Seen::Err(errno) => write!(f, "{errno:?}"),
            Seen::Outcome(outcome) => write!(f, "{outcome}"),
            Seen::Messages(messages) if messages.is_empty() => f.write_str("nothing"),
            Seen::Messages(messages) => f.write_str(&messages.join(", ")),
            Seen::Bits(bits) => write!(f, "bits {bits:#x}"),
            Seen::Number(number) => write!(f, "number {number}"),
            Seen::Killed => f.write_str("killed"),
            Seen::Asleep => f.write_str("asleep"),
            Seen::Spinning => f.write_str("spinning"),
        }
    }
}

/// The class of a page's content: what one word of it tells.
pub fn content_text(content: Content) -> &'static str {
    match content {
        Content::Zero => "zero",
        Content::Source { .. } => "source",
        Content::Written { .. } => "written",
        Content::Bytes(_) => "bytes",
    }
}

/// What page `n` is like.
pub fn page_text(n: u64, entry: &Entry) -> String {
    let mut text = match entry.content {
        Some(Content::Source { page, .. }) if u64::from(page) != n => format!("source-of-{page}"),
        Some(content) => content_text(content).to_owned(),
        None if entry.marker => "marker".to_owned(),
        None => "absent".to_owned(),
    };
    if entry.wp {
        text.push_str(" wp");
    }
    text
}

/// What must come of something, in the words of [`Seen`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Expect(String);

impl Expect {
    /// `None` if no result is called that.
    pub fn new(text: &str) -> Option<Expect> {
        let known = [
            "ok",
            "zero",
            "source",
            "written",
            "bytes",
            "segv",
            "segv-maperr",
            "segv-accerr",
            "bus",
            "nothing",
            "killed",
            "asleep",
            "spinning",
        ];
        let (first, rest) = text.split_once(' ').unwrap_or((text, ""));
        let inside = rest.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let field = inside.is_some_and(|field| field.parse::<i64>().is_ok());
        let number = |text: &str| text.parse::<u64>().is_ok();
        let right = match first {
            _ if text.split(", ").all(is_message) => true,
            "ok" => rest.is_empty() || field,
            "bits" => is_hex(rest),
            "number" => number(rest),
            _ if known.contains(&first) => rest.is_empty(),
            _ => Errno::from_name(first).is_some() && (rest.is_empty() || field),
        };
        right.then(|| Expect(text.to_owned()))
    }

    /// Is that it? A result without its field is any with that beginning.
    pub fn holds(&self, seen: &Seen) -> bool {
        let text = seen.to_string();
        let bare = text.split_once(" [").map_or(text.as_str(), |(bare, _)| bare);
        let segv = self.0 == "segv" && matches!(seen, Seen::MapErr | Seen::AccErr);
        text == self.0 || bare == self.0 || segv
    }
}

impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Is that one message, as `event_text` would have it?
fn is_message(text: &str) -> bool {
    let words: Vec<_> = text.split(' ').collect();
    match words[..] {
        ["FORK"] => true,
        ["REMOVE" | "UNMAP", pages] => is_part(pages),
        ["REMAP", pages, "to", place] => is_part(pages) && is_place(place),
        [fault, ref rest @ ..] => {
            let place = fault.strip_prefix('F').and_then(|f| f.strip_suffix(['r', 'w']));
            // Who it is, and flags that nobody knows, come last.
            let kind = rest.strip_prefix(&["WP"]).or_else(|| rest.strip_prefix(&["MINOR"]));
            let more = kind.unwrap_or(rest);
            let known = more.first().is_none_or(|word| ["by", "flags"].contains(word));
            place.is_some_and(is_place) && known
        }
        [] => false,
    }
}

/// `A..B`.
fn is_part(text: &str) -> bool {
    text.split_once("..").is_some_and(|(start, end)| is_place(start) && is_place(end))
}

/// `3`, or `3+0x10`.
fn is_place(text: &str) -> bool {
    let (page, byte) = text.split_once('+').unwrap_or((text, "0x0"));
    page.parse::<u64>().is_ok() && is_hex(byte)
}

fn is_hex(text: &str) -> bool {
    text.strip_prefix("0x").is_some_and(|digits| u64::from_str_radix(digits, 16).is_ok())
}
