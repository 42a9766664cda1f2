//! The layout language: VMAs as text, in pages. Owns how it is written; `layout_parse.rs`
//! reads it.
//!
//! `[0,4)rw [4,8)r` is two VMAs; what differs from a plain private anonymous mapping follows
//! a colon, comma-separated: `[0,4)rw:um@1,X3` is registered for missing faults with context
//! 1 and has anon_vma 3. The words are the tokens of `smaps` (with `-` in front if a flag
//! that goes without saying is missing), then
//!
//! | word | meaning |
//! |---|---|
//! | `um@c`, `uw@c`, `ui@c` | registered with context `c` |
//! | `pg=n` | anonymous memory with the page offset of page `n` |
//! | `shm7+2`, `file7+2`, `huge7+2` | file 7 from its page 2 on |
//! | `X3`, `X3*` | anon_vma 3; with a longer chain |
//! | `mp2`, `name2`, `close` | policy 2, name 2, a driver that wants to see it closed |

use core::fmt;

use super::area::PAGE_SHIFT;
use super::map::charge_flags;
use super::{AddressSpace, Backing, Vma, VmaFlags};

/// VMAs to be printed with pages counted from a base address. Pages are decimal, or
/// hexadecimal in the alternate form (`{:#}`).
pub struct Layout<'a> {
    space: &'a AddressSpace,
    base: u64,
}

impl AddressSpace {
    /// The layout with page numbers counted from `base`.
    pub fn layout(&self, base: shims::Addr) -> Layout<'_> {
        Layout { space: self, base: base.raw() }
    }
}

impl fmt::Display for Layout<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, vma) in self.space.iter().enumerate() {
            if i > 0 {
                f.write_str(" ")?;
            }
            fmt::Display::fmt(&Printed { vma, base: self.base }, f)?;
        }
        Ok(())
    }
}

impl fmt::Display for AddressSpace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.layout(shims::Addr::ZERO))
    }
}

impl fmt::Debug for Vma {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", Printed { vma: self, base: 0 })
    }
}

/// One VMA, to be printed.
struct Printed<'a> {
    vma: &'a Vma,
    base: u64,
}

impl fmt::Display for Printed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_vma(f, self.vma, self.base)
    }
}

fn write_vma(f: &mut fmt::Formatter<'_>, vma: &Vma, base: u64) -> fmt::Result {
    let page = |addr: u64| (addr.wrapping_sub(base)) >> PAGE_SHIFT;
    if f.alternate() {
        write!(f, "[{:#x},{:#x})", page(vma.start), page(vma.end))?;
    } else {
        write!(f, "[{},{})", page(vma.start), page(vma.end))?;
    }
    for (flag, letter) in [(VmaFlags::READ, "r"), (VmaFlags::WRITE, "w"), (VmaFlags::EXEC, "x")] {
        f.write_str(if vma.flags.contains(flag) { letter } else { "" })?;
    }
    if !vma.flags.intersects(VmaFlags::ACCESS) {
        f.write_str("---")?;
    }
    let mut separator = ":";
    let mut word = |f: &mut fmt::Formatter<'_>, text: fmt::Arguments<'_>| {
        f.write_str(separator)?;
        separator = ",";
        f.write_fmt(text)
    };
    let usual = usual_flags(vma.flags);
    for (flag, token) in VmaFlags::TOKENS {
        let has = vma.flags.contains(*flag);
        if VmaFlags::UFFD.contains(*flag) {
            if let (true, Some(ctx)) = (has, vma.ctx) {
                word(f, format_args!("{token}@{}", ctx.0))?;
            }
        } else if has != usual.contains(*flag) && !VmaFlags::ACCESS.contains(*flag) {
            word(f, format_args!("{}{token}", if has { "" } else { "-" }))?;
        }
    }
    match vma.backing {
        Backing::Anon if vma.pgoff == vma.start >> PAGE_SHIFT => {}
        Backing::Anon => {
            word(f, format_args!("pg={}", vma.pgoff as i64 - (base >> PAGE_SHIFT) as i64))?
        }
        Backing::Shmem(file) => word(f, format_args!("shm{}+{}", file.0, vma.pgoff))?,
        Backing::File(file) => word(f, format_args!("file{}+{}", file.0, vma.pgoff))?,
        Backing::Hugetlb(file, _) => word(f, format_args!("huge{}+{}", file.0, vma.pgoff))?,
    }
    if let Some(anon) = vma.anon {
        word(f, format_args!("{anon:?}"))?;
    }
    if vma.policy.0 != 0 {
        word(f, format_args!("mp{}", vma.policy.0))?;
    }
    if vma.name.0 != 0 {
        word(f, format_args!("name{}", vma.name.0))?;
    }
    if vma.close && !vma.flags.contains(VmaFlags::HUGETLB) {
        word(f, format_args!("close"))?;
    }
    Ok(())
}

/// The flags that go without saying, given the others.
pub(super) fn usual_flags(flags: VmaFlags) -> VmaFlags {
    let mut usual = VmaFlags::MAY;
    usual |= charge_flags(flags.difference(VmaFlags::ACCOUNT)) & VmaFlags::ACCOUNT;
    if flags.contains(VmaFlags::SHARED) {
        usual |= VmaFlags::MAYSHARE;
    }
    usual
}
