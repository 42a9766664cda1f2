//! What the simulated kernel is asked for each operation. Owns the translation; who does it, and what
//! comes of it, is in `sim_arm.rs`.

use std::collections::BTreeMap;

use shims::{Addr, CopyMode, Request};
use sim::kernel::{Call, FileCall, Madvise, Payload, ProcessCall, Reading, StructAt, Via};
use sim::vma::{Advice, FileId, FileKind, MapFile, MapFlags, Mmap, Mremap, Prot};
use sim::world::BASE;
use sim::{Content, STAMP_LEN};

use super::arm::bytes;
use super::op::{Advise, Fill, Kind, Op, PAGE, Piece};
use super::sim_arm::SimArm;

impl SimArm {
    /// The call that stands for an operation of thread `index`.
    pub fn call(index: usize, op: Op) -> Call {
        let page = |n: u64| Addr::new(BASE.raw() + n * PAGE);
        let content = |seq| Content::Written { task: index as u16, seq };
        let range = |at, len| bytes(BASE, at, len);
        match op {
            Op::Load(n) | Op::Glance(n) => Call::Load { addr: page(n) },
            Op::Touch { at, write: false } => Call::Load { addr: Addr::new(BASE.raw() + at) },
            Op::Store(n, seq) => Call::Store { addr: page(n), content: content(seq) },
            Op::Touch { at, write: true } => {
                Call::Store { addr: Addr::new(BASE.raw() + at), content: content(0) }
            }
            Op::Populate { at, len, write } => Call::Populate { range: range(at, len), write },
            Op::DontNeed { at, len } => Call::DontNeed { range: range(at, len) },
            Op::Map { at, len, prot, fill } => {
                let how = match fill {
                    Fill::Later => MapFlags::empty(),
                    Fill::Populated => MapFlags::POPULATE,
                    Fill::Locked => MapFlags::LOCKED,
                };
                Call::Mmap(Mmap::fixed(BASE.raw() + at, len, prot).with(how))
            }
            Op::Unmap { at, len } => Call::Munmap { range: range(at, len) },
            Op::Seal { at, len } => Call::Mseal { range: range(at, len) },
            Op::Protect { at, len, prot } => Call::Mprotect { range: range(at, len), prot },
            Op::Remap { at, len, new_len, to, flags } => Call::Mremap(Mremap {
                old: BASE.raw() + at,
                old_len: len,
                new_len,
                flags,
                new: to.map_or(0, |to| BASE.raw() + to),
            }),
            Op::Fork | Op::ForkWithFiles => Call::Process(ProcessCall::Fork { share_files: false }),
            Op::ForkSharingFiles => Call::Process(ProcessCall::Fork { share_files: true }),
            Op::Vfork => Call::Process(ProcessCall::Vfork),
            Op::Exit => Call::Process(ProcessCall::Exit),
            Op::Lock { at, len, on_fault } => Call::Mlock { range: range(at, len), on_fault },
            Op::UserCopy { at, write } => Call::Transfer {
                via: Via::Syscall,
                range: range(at, STAMP_LEN as u64),
                store: write.then(|| content(0)),
            },
            Op::Advise { at, len, advice: Advise::Remove } => {
                Call::RemoveFile { range: range(at, len) }
            }
            Op::Advise { at, len, advice } => {
                let advice = madvise(advice)
                    .unwrap_or_else(|| panic!("no {advice:?} yet; say so with `kernel_only`"));
                Call::Madvise { range: range(at, len), advice }
            }
            Op::DontNeedSelf { at, len } => {
                Call::ProcessMadvise { ranges: vec![range(at, len)], advice: Madvise::DontNeed }
            }
            op => panic!("the simulator has no call for {op:?}; say so with `kernel_only`"),
        }
    }

    /// The same for an operation that takes a file, a descriptor or a process.
    pub(crate) fn file_call(&mut self, index: usize, op: Op) -> Call {
        let stamp = Content::Written { task: index as u16, seq: 0 };
        let word = |at| bytes(BASE, at, STAMP_LEN as u64);
        match op {
            Op::ProcMem { at, write } => {
                let mm = self.kernel.get_mut().mm_of(self.threads[index]);
                let store = write.then_some(stamp);
                Call::Transfer { via: Via::Forced(mm), range: word(at), store }
            }
            Op::Remote { at, write } => {
                let via = Via::Pinned(self.processes[0].0);
                Call::Transfer { via, range: word(at), store: write.then_some(stamp) }
            }
            Op::ReadBlocking { uffd } => {
                Call::File(FileCall::Read(Reading::new(self.fd(uffd).number, 512)))
            }
            Op::PollBlocking { uffd } => {
                Call::File(FileCall::Poll { fd: self.fd(uffd).number, wait: true })
            }
            Op::CopyFrom { uffd, to, from, len } => {
                let request = Request::Copy { dst: bytes(BASE, to, len), mode: CopyMode::empty() };
                let payload = Payload::From(bytes(BASE, from, len).start);
                Call::File(FileCall::Resolve { fd: self.fd(uffd).number, request, payload })
            }
            Op::CopyArg { uffd, to, arg } => {
                let request = Request::Copy { dst: bytes(BASE, to, PAGE), mode: CopyMode::empty() };
                let payload = Payload::One(super::run::source(to / PAGE));
                let at = StructAt { at: bytes(BASE, arg, PAGE).start, payload };
                let payload = Payload::At(Box::new(at));
                Call::File(FileCall::Resolve { fd: self.fd(uffd).number, request, payload })
            }
            // To userfaultfd a segment is what a regular file is: memory of another driver (b5).
            Op::SysvAttach { at, len } => {
                let file = MapFile::rw(FileId(u32::MAX), FileKind::Regular);
                let request = Mmap::file(file, 0, len, Prot::RW, MapFlags::SHARED);
                Call::Mmap(request.at(BASE.raw() + at))
            }
            Op::MapFile { piece } => Call::Mmap(mmap(&piece, &self.files)),
            Op::Truncate { file, len } => Call::Ftruncate { file: self.files[&file].id, size: len },
            Op::Punch { file, at, len } => {
                Call::Punch { file: self.files[&file].id, start: at, len }
            }
            op => SimArm::call(index, op),
        }
    }
}

pub(super) fn mmap(piece: &Piece, files: &BTreeMap<u8, MapFile>) -> Mmap {
    let (at, len) = (BASE.raw() + piece.at * PAGE, piece.pages * PAGE);
    if piece.kind == Kind::Anon {
        return Mmap::fixed(at, len, piece.prot);
    }
    let flags = if piece.kind.is_private() { MapFlags::PRIVATE } else { MapFlags::SHARED };
    Mmap::file(files[&piece.file], piece.offset * PAGE, len, piece.prot, flags).at(at)
}

/// The advice in the simulator's words.
fn madvise(advice: Advise) -> Option<Madvise> {
    Some(match advice {
        Advise::WillNeed => Madvise::WillNeed,
        Advise::DontNeed => Madvise::DontNeed,
        Advise::Free => Madvise::Free,
        Advise::DontFork => Madvise::Flags(Advice::DontFork),
        Advise::HugePage => Madvise::Flags(Advice::HugePage),
        Advise::NoHugePage => Madvise::Flags(Advice::NoHugePage),
        Advise::WipeOnFork => Madvise::Flags(Advice::WipeOnFork),
        Advise::Cold => Madvise::Cold,
        Advise::PageOut => Madvise::PageOut,
        Advise::DontNeedLocked => Madvise::DontNeedLocked,
        Advise::GuardInstall => Madvise::GuardInstall,
        Advise::GuardRemove => Madvise::GuardRemove,
        Advise::Collapse => Madvise::Collapse,
        Advise::Remove => return None,
    })
}
