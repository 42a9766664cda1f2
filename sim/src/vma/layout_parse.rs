//! Reading the layout language (see `layout.rs`). Owns what is wrong with a text that is no
//! layout.

use core::fmt;

use shims::{Addr, PageSize};

use super::area::PAGE_SHIFT;
use super::layout::usual_flags;
use super::{AddressSpace, Anon, Backing, CtxId, FileId, NameId, PolicyId, Rules, Vma, VmaFlags};

/// Why a text is no layout.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum LayoutError {
    /// This is no `[start,end)` of pages with `start < end`.
    Range(String),
    /// This word says nothing about a VMA.
    Word(String),
    /// A VMA starts below the end of the one before it.
    Order(String),
}

impl AddressSpace {
    /// The address space that `layout` shows, with pages counted from `base`. The VMAs are
    /// taken as they are: two that could be one stay two.
    pub fn from_layout(
        rules: Rules,
        base: Addr,
        layout: &str,
    ) -> Result<AddressSpace, LayoutError> {
        let mut space = AddressSpace::new(rules);
        let mut floor = 0;
        for text in layout.split_ascii_whitespace() {
            let vma = parse_vma(text, base.raw() >> PAGE_SHIFT)?;
            if vma.start < floor {
                return Err(LayoutError::Order(text.to_owned()));
            }
            floor = vma.end;
            space.next_anon = space.next_anon.max(vma.anon.map_or(0, |anon| anon.id() + 1));
            space.count_pages(&vma);
            space.tree.splice(vma.start, 0, &[vma]);
        }
        Ok(space)
    }
}

/// Pages `[start,end)`, and what follows the parenthesis.
pub(super) fn parse_range(text: &str) -> Result<(u64, u64, &str), LayoutError> {
    let wrong = || LayoutError::Range(text.to_owned());
    let (range, rest) = text.split_once(')').ok_or_else(wrong)?;
    let (start, end) = range.strip_prefix('[').and_then(|r| r.split_once(',')).ok_or_else(wrong)?;
    match (number(start), number(end)) {
        (Some(start), Some(end)) if start < end => Ok((start, end, rest)),
        _ => Err(wrong()),
    }
}

fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// One VMA, its pages counted from page `base`.
pub(super) fn parse_vma(text: &str, base: u64) -> Result<Vma, LayoutError> {
    let (start, end, rest) = parse_range(text)?;
    let (start, end) = ((start + base) << PAGE_SHIFT, (end + base) << PAGE_SHIFT);
    let mut vma = Vma::anonymous(start, end, VmaFlags::empty());
    let (access, words) = rest.split_once(':').unwrap_or((rest, ""));
    for letter in access.chars() {
        vma.flags |= match letter {
            'r' => VmaFlags::READ,
            'w' => VmaFlags::WRITE,
            'x' => VmaFlags::EXEC,
            '-' => VmaFlags::empty(),
            _ => return Err(LayoutError::Word(rest.to_owned())),
        };
    }
    let mut missing = VmaFlags::empty();
    for word in words.split(',').filter(|word| !word.is_empty()) {
        match word.strip_prefix('-').and_then(VmaFlags::from_token) {
            Some(flag) => missing |= flag,
            None => parse_word(word, base, &mut vma)
                .ok_or_else(|| LayoutError::Word(word.to_owned()))?,
        }
    }
    vma.flags |= usual_flags(vma.flags).difference(missing);
    Ok(vma)
}

fn parse_word(word: &str, base: u64, vma: &mut Vma) -> Option<()> {
    let file = |kind: &str| {
        let (file, page) = word.strip_prefix(kind)?.split_once('+')?;
        Some((FileId(file.parse().ok()?), number(page)?))
    };
    if let Some(flag) = VmaFlags::from_token(word) {
        vma.flags |= flag;
    } else if let Some((token, ctx)) = word.split_once('@') {
        vma.flags |= VmaFlags::from_token(token)?;
        vma.ctx = Some(CtxId(ctx.parse().ok()?));
    } else if let Some(page) = word.strip_prefix("pg=") {
        vma.pgoff = base.checked_add_signed(page.parse().ok()?)?;
    } else if let Some((id, page)) = file("shm") {
        (vma.backing, vma.pgoff) = (Backing::Shmem(id), page);
    } else if let Some((id, page)) = file("file") {
        (vma.backing, vma.pgoff) = (Backing::File(id), page);
    } else if let Some((id, page)) = file("huge") {
        (vma.backing, vma.pgoff) = (Backing::Hugetlb(id, PageSize::MIB2), page);
        vma.close = true;
    } else if let Some(id) = word.strip_prefix('X') {
        let (id, forked) = id.strip_suffix('*').map_or((id, false), |id| (id, true));
        let id = id.parse().ok().filter(|id| (1..1 << 31).contains(id))?;
        vma.anon = Some(if forked { Anon::forked(id) } else { Anon::own(id) });
    } else if let Some(id) = word.strip_prefix("mp") {
        vma.policy = PolicyId(id.parse().ok()?);
    } else if let Some(id) = word.strip_prefix("name") {
        vma.name = NameId(id.parse().ok()?);
    } else if word == "close" {
        vma.close = true;
    } else {
        return None;
    }
    Some(())
}

impl fmt::Display for LayoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LayoutError::Range(text) => {
                write!(f, "`{text}` does not begin with pages like `[0,4)`")
            }
            LayoutError::Word(text) => {
                write!(f, "`{text}` is no attribute of a VMA (one is `um@1`, `X3` or `lo`)")
            }
            LayoutError::Order(text) => {
                write!(f, "`{text}` starts below the end of the VMA before it")
            }
        }
    }
}

impl core::error::Error for LayoutError {}
