//! Mappings (placeholder of the VMA layer until it lands).
#![allow(missing_docs)]
use shims::{Addr, Errno, Len, RegisterModes, Span};

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CtxId(pub u32);
bitflags::bitflags! {
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
    pub struct VmaFlags: u64 { const READ = 1; const WRITE = 2; const EXEC = 4; const LOCKED = 8; }
}
bitflags::bitflags! {
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
    pub struct Prot: u8 { const NONE = 0; const READ = 1; const RW = 3; }
}
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Rules(u8);
impl Rules {
    pub const LINUX_6_18: Rules = Rules(1);
    pub const LINUX_6_12: Rules = Rules(0);
}
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Vma {
    start: u64,
    end: u64,
    flags: VmaFlags,
    uffd: Option<CtxId>,
    modes: RegisterModes,
}
impl Vma {
    pub fn start(&self) -> Addr {
        Addr::new(self.start)
    }
    pub fn end(&self) -> Addr {
        Addr::new(self.end)
    }
    pub fn flags(&self) -> VmaFlags {
        self.flags
    }
    pub fn uffd(&self) -> Option<CtxId> {
        self.uffd
    }
    pub fn uffd_modes(&self) -> RegisterModes {
        self.modes
    }
}
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct AddressSpace {
    vmas: Vec<Vma>,
    _r: Rules,
}
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Mmap {
    pub addr: u64,
    pub len: u64,
    pub prot: Prot,
}
impl Mmap {
    pub fn fixed(addr: u64, len: u64, prot: Prot) -> Mmap {
        Mmap { addr, len, prot }
    }
}
pub struct Mapped {
    pub addr: Addr,
    pub removed: Removed,
}
#[derive(Default)]
pub struct Removed {
    parts: Vec<Vma>,
}
impl Removed {
    pub fn spans(&self) -> impl Iterator<Item = Span> + '_ {
        self.parts.iter().map(|v| Span::new(v.start(), Len::new(v.end - v.start)))
    }
    pub fn ctxs(&self) -> impl Iterator<Item = CtxId> + '_ {
        let mut v: Vec<_> = self.parts.iter().filter_map(|v| v.uffd).collect();
        v.dedup();
        v.into_iter()
    }
}
pub struct Part {
    pub start: Addr,
    pub end: Addr,
    pub modes: RegisterModes,
}
impl Part {
    pub fn span(&self) -> Span {
        Span::between(self.start, self.end).unwrap()
    }
}
impl AddressSpace {
    pub fn new(rules: Rules) -> Self {
        AddressSpace { vmas: vec![], _r: rules }
    }
    pub fn find(&self, a: Addr) -> Option<&Vma> {
        self.vmas.iter().find(|v| v.start <= a.raw() && a.raw() < v.end)
    }
    pub fn find_next(&self, a: Addr) -> Option<&Vma> {
        self.vmas.iter().find(|v| a.raw() < v.end)
    }
    fn carve(&mut self, s: u64, e: u64) -> Vec<Vma> {
        let mut out = vec![];
        let mut keep = vec![];
        for v in self.vmas.drain(..) {
            if v.end <= s || v.start >= e {
                keep.push(v);
                continue;
            }
            if v.start < s {
                keep.push(Vma { end: s, ..v });
            }
            if v.end > e {
                keep.push(Vma { start: e, ..v });
            }
            out.push(Vma { start: v.start.max(s), end: v.end.min(e), ..v });
        }
        keep.sort_by_key(|v| v.start);
        self.vmas = keep;
        out
    }
    fn put(&mut self, parts: Vec<Vma>) {
        self.vmas.extend(parts);
        self.vmas.sort_by_key(|v| v.start);
        let mut merged: Vec<Vma> = vec![];
        for v in self.vmas.drain(..) {
            if let Some(p) = merged.last_mut()
                && p.end == v.start
                && p.flags == v.flags
                && p.uffd == v.uffd
                && p.modes == v.modes
            {
                p.end = v.end;
            } else {
                merged.push(v);
            }
        }
        self.vmas = merged;
    }
    pub fn mmap(&mut self, m: &Mmap) -> Result<Mapped, Errno> {
        let parts = self.carve(m.addr, m.addr + m.len);
        self.put(vec![Vma {
            start: m.addr,
            end: m.addr + m.len,
            flags: VmaFlags::from_bits_retain(m.prot.bits() as u64),
            uffd: None,
            modes: RegisterModes::empty(),
        }]);
        Ok(Mapped { addr: Addr::new(m.addr), removed: Removed { parts } })
    }
    pub fn munmap(&mut self, s: u64, l: u64) -> Result<Removed, Errno> {
        Ok(Removed { parts: self.carve(s, s + l) })
    }
    pub fn mprotect(&mut self, s: u64, l: u64, p: Prot) -> Result<(), Errno> {
        let mut parts = self.carve(s, s + l);
        for v in &mut parts {
            v.flags = VmaFlags::from_bits_retain(p.bits() as u64);
        }
        self.put(parts);
        Ok(())
    }
    pub fn uffd_register(
        &mut self,
        r: Span,
        ctx: CtxId,
        modes: RegisterModes,
        _wp_async: bool,
    ) -> Result<(), Errno> {
        let mut parts = self.carve(r.start.raw(), r.end().unwrap().raw());
        for v in &mut parts {
            v.uffd = Some(ctx);
            v.modes = modes;
        }
        self.put(parts);
        Ok(())
    }
    pub fn uffd_unregister(&mut self, r: Span, _ctx: CtxId) -> Result<Vec<Part>, Errno> {
        let mut parts = self.carve(r.start.raw(), r.end().unwrap().raw());
        let out = parts
            .iter()
            .filter(|v| v.uffd.is_some())
            .map(|v| Part { start: v.start(), end: v.end(), modes: v.modes })
            .collect();
        for v in &mut parts {
            v.uffd = None;
            v.modes = RegisterModes::empty();
        }
        self.put(parts);
        Ok(out)
    }
    pub fn uffd_release(&mut self, ctx: CtxId) {
        let mut p = core::mem::take(&mut self.vmas);
        for v in &mut p {
            if v.uffd == Some(ctx) {
                v.uffd = None;
                v.modes = RegisterModes::empty();
            }
        }
        self.put(p);
    }
    pub fn note_anon_fault(&mut self, _a: Addr) {}
}
