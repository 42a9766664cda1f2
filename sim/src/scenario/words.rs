//! Lines, words and where they stand. Owns the error every parser of this crate reports:
//! file, line, column, what was expected.

use core::fmt;

/// Text that is not what its format says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScenarioError {
    /// The name of the file, as the caller gave it.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// Column, in characters from 1.
    pub column: u32,
    /// What is wrong and what would be right.
    pub message: String,
}

impl fmt::Display for ScenarioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.message)
    }
}

impl core::error::Error for ScenarioError {}

/// The words of one line, each with its column.
#[derive(Clone, Debug)]
pub struct Words<'t> {
    file: &'t str,
    line: u32,
    text: &'t str,
    /// Byte offset of what has not been taken.
    at: usize,
}

impl<'t> Words<'t> {
    /// The words of `text`, which is line number `line`; a comment is no word.
    pub fn new(file: &'t str, line: u32, text: &'t str) -> Words<'t> {
        let text = match text.find('#') {
            Some(comment) => &text[..comment],
            None => text,
        };
        Words { file, line, text: text.trim_end(), at: 0 }
    }

    /// The number of the line.
    pub fn line(&self) -> u32 {
        self.line
    }

    /// Does the line begin with white space?
    pub fn indented(&self) -> bool {
        self.text.starts_with([' ', '\t'])
    }

    /// Is no word left?
    pub fn is_empty(&mut self) -> bool {
        self.skip();
        self.at == self.text.len()
    }

    fn skip(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
    }

    /// The next word and where it stands.
    #[expect(clippy::should_implement_trait, reason = "an iterator could not be asked where it is")]
    pub fn next(&mut self) -> Option<(&'t str, u32)> {
        self.skip();
        let rest = &self.text[self.at..];
        if rest.is_empty() {
            return None;
        }
        let len = rest.find([' ', '\t']).unwrap_or(rest.len());
        let column = self.column();
        self.at += len;
        Some((&rest[..len], column))
    }

    /// All that is left of the line, as it stands.
    pub fn rest(&mut self) -> &'t str {
        self.skip();
        let rest = &self.text[self.at..];
        self.at = self.text.len();
        rest
    }

    /// Where the next word begins, or the line ends.
    pub fn column(&mut self) -> u32 {
        self.skip();
        self.text[..self.at].chars().count() as u32 + 1
    }

    /// An error at `column`.
    pub fn error(&self, column: u32, message: impl Into<String>) -> ScenarioError {
        ScenarioError {
            file: self.file.to_owned(),
            line: self.line,
            column,
            message: message.into(),
        }
    }

    /// The next word, which must be there.
    pub fn want(&mut self, what: &str) -> Result<(&'t str, u32), ScenarioError> {
        match self.next() {
            Some(word) => Ok(word),
            None => {
                let column = self.column();
                Err(self.error(column, format!("expected {what}, found the end of the line")))
            }
        }
    }

    /// The line must end here.
    pub fn end(&mut self) -> Result<(), ScenarioError> {
        match self.next() {
            None => Ok(()),
            Some((word, column)) => {
                Err(self.error(column, format!("expected the end of the line, found `{word}`")))
            }
        }
    }

    /// A number from `min` to `max`.
    pub fn number(&mut self, what: &str, min: u64, max: u64) -> Result<u64, ScenarioError> {
        let (word, column) = self.want(what)?;
        match word.parse::<u64>() {
            Ok(number) if (min..=max).contains(&number) => Ok(number),
            Ok(_) => {
                Err(self
                    .error(column, format!("expected {what} from {min} to {max}, found {word}")))
            }
            Err(_) => Err(self.error(column, format!("expected {what}, found `{word}`"))),
        }
    }
}
