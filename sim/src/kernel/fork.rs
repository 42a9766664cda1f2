//! `fork`: a copy of the address space, and a userfaultfd of its own for the child where one
//! was asked for (rules d25 to d30, d33). Owns which pages are copied and how; which mappings
//! is [`crate::vma`]'s business.
//!
//! A page has one content for both processes until one of them writes: as contents are
//! values, the copy is made at once and [`PteBits::FORKED`](super::PteBits) remembers that it
//! is not yet the process's own.
//!
//! # Divergence from Linux
//!
//! - To a reader that uses the context itself, the number in a `FORK` message is that of the
//!   child's context ([`Kernel::child_userfaultfd`]), and making it never fails. A reader that
//!   uses a descriptor gets a descriptor (d28, d29).
//! - The child cannot be waited for and does not exit: what it shares with its parent stays
//!   shared until it is written, as it does on Linux.

use shims::{Event, Features, RegisterModes};

use super::call::{MmId, Ret};
use super::ctx::Ctx;
use super::did::Did;
use super::page_table::PageTable;
use super::run::Run;
use super::{Kernel, Mm, page_of};
use crate::profile::Bugs;
use crate::vma::{AddressSpace, CtxId, VmaFlags};

impl Kernel {
    /// The child's userfaultfd whose number stood in a `FORK` message (rule d28).
    pub fn child_userfaultfd(&self, fd: i32) -> Option<CtxId> {
        let number = u32::try_from(fd).ok()?;
        ((number as usize) < self.ctxs.len()).then_some(CtxId(number))
    }

    /// Everything but the events is one step: it is done with the parent's mmap lock held
    /// for writing, and the child does not run before `fork` returns (rule d27).
    pub(super) fn fork(&mut self, mm: MmId) -> (Run, Did) {
        let child = MmId(u16::try_from(self.mms.len()).expect("fewer than 65,536 address spaces"));
        let ctxs = self.child_ctxs(mm, child);
        let child_of = |parent| ctxs.iter().find(|(of, _)| *of == parent).map(|(_, new)| *new);
        let space = self.space(mm).fork(child_of);
        let table = self.fork_pages(mm, &space);
        // A file's pages come again, so they are not among what was copied.
        let of_parent = self.mm(mm).huge.iter().copied();
        let huge = of_parent.filter(|base| table.get(*base).is_present()).collect();
        self.mms.push(Mm { space, table, huge, readers: 0, writer: false, dead: false });
        let number = |ctx: CtxId| i32::try_from(ctx.0).expect("a descriptor's number");
        let list = ctxs.iter().map(|&(of, new)| (of, Event::Fork { fd: number(new) })).collect();
        self.announce(list, Ret::Forked(child))
    }

    /// A context for the child for each of the parent's that wants to know, in the order of
    /// their first VMAs that are copied (rules d25, d26).
    pub(super) fn child_ctxs(&mut self, mm: MmId, child: MmId) -> Vec<(CtxId, CtxId)> {
        let mut pairs: Vec<(CtxId, CtxId)> = Vec::new();
        let mut next = u32::try_from(self.ctxs.len()).expect("fewer than 2^32 contexts");
        for vma in self.mms[usize::from(mm.0)].space.iter() {
            let Some(ctx) = vma.uffd() else { continue };
            if !vma.flags().contains(VmaFlags::DONTCOPY)
                && self.ctx(ctx).features.contains(Features::EVENT_FORK)
                && pairs.iter().all(|(of, _)| *of != ctx)
            {
                pairs.push((ctx, CtxId(next)));
                next += 1;
            }
        }
        for (of, _) in &pairs {
            let of = self.ctx(*of);
            let (user_mode_only, created) = (of.user_mode_only, of.created);
            let new = Ctx::new(child, of.features);
            self.ctxs.push(Ctx { user_mode_only, created, ..new });
        }
        pairs
    }

    /// The child's page table. Memory without an anon_vma has no page worth copying: its
    /// zero pages come again, and where the child watches for `MISSING` it is asked for them.
    /// What `WP` watches is copied whole, for the sake of its bits, and what has had guards for
    /// the sake of those.
    fn fork_pages(&mut self, mm: MmId, space: &AddressSpace) -> PageTable {
        let keeps = self.profile.has_bug(Bugs::Z10);
        let parent = &mut self.mm(mm).table;
        let mut table = PageTable::default();
        for vma in space.iter() {
            let wp = vma.uffd_modes().contains(RegisterModes::WP);
            let wiped = vma.flags().contains(VmaFlags::WIPEONFORK);
            let guarded = vma.flags().contains(VmaFlags::MAYBE_GUARD);
            if wiped || !(wp || guarded || vma.anon().is_some()) {
                continue;
            }
            let entries: Vec<_> =
                parent.entries_in(page_of(vma.start()), page_of(vma.end())).collect();
            for (vpn, pte) in entries {
                let pte = pte.forked();
                parent.set(vpn, pte);
                table.set(vpn, if wp || keeps { pte.inherited() } else { pte.unwatched() });
            }
        }
        table
    }

    /// Nobody will read the message of a fork: the child is not watched (rule d30).
    pub(super) fn call_off(&mut self, event: Event) {
        let Event::Fork { fd } = event else { return };
        let ctx = self.child_userfaultfd(fd).expect("the message names a context");
        self.ctx_mut(ctx).released = true;
        let mm = self.ctx(ctx).mm;
        self.mm(mm).space.uffd_release(ctx);
    }
}
