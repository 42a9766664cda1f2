//! The layout language: VMAs as text, in pages. Owns the grammar.
//!
//! `[0x10,0x14)rw [0x14,0x18)r` is two VMAs; what differs from a plain private anonymous
//! mapping follows a colon, comma-separated: `[0x10,0x14)rw:um@1,X3`.

use core::fmt;

use super::map::charge_flags;
use super::vma::PAGE_SHIFT;
use super::{AddressSpace, Backing, Vma, VmaFlags};

/// VMAs to be printed relative to a base address.
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
            write_vma(f, vma, self.base)?;
        }
        Ok(())
    }
}

impl fmt::Display for AddressSpace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.layout(shims::Addr::ZERO))
    }
}

impl fmt::Debug for Vma {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_vma(f, self, 0)
    }
}

fn write_vma(f: &mut fmt::Formatter<'_>, vma: &Vma, base: u64) -> fmt::Result {
    let page = |addr: u64| (addr.wrapping_sub(base)) >> PAGE_SHIFT;
    write!(f, "[{:#x},{:#x})", page(vma.start), page(vma.end))?;
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
        Backing::Anon => word(f, format_args!("pg={:#x}", page(vma.pgoff << PAGE_SHIFT)))?,
        Backing::Shmem(file) => word(f, format_args!("shm{}+{:#x}", file.0, vma.pgoff))?,
        Backing::File(file) => word(f, format_args!("file{}+{:#x}", file.0, vma.pgoff))?,
        Backing::Hugetlb(file, _) => word(f, format_args!("huge{}+{:#x}", file.0, vma.pgoff))?,
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
