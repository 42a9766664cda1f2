//! `mremap`: the pages move with their mapping, and what has moved or gone is announced
//! (rules d18 to d24). Which mappings there are afterwards is [`crate::vma`]'s business.

use shims::{Errno, Event, Features, Len, Span};

use super::call::{MmId, Ret};
use super::did::Did;
use super::run::Run;
use super::{Kernel, PAGE, page_of};
use crate::profile::{Bugs, RemapLen};
use crate::vma::{Moved, Mremap, Remapped};

impl Kernel {
    pub(super) fn mremap(&mut self, mm: MmId, asked: &Mremap) -> (Run, Did) {
        let ctxs = &self.ctxs;
        let keeps =
            |ctx: crate::vma::CtxId| ctxs[ctx.0 as usize].features.contains(Features::EVENT_REMAP);
        let done = self.mms[usize::from(mm.0)].space.mremap(asked, keeps);
        // What goes makes room for what comes.
        self.drop_pages(mm, &done.target);
        self.drop_pages(mm, &done.tail);
        for moved in &done.moved {
            let (from, to) = (page_of(moved.from), page_of(moved.to));
            let keep_wp = moved.ctx.is_none() || moved.still_watched;
            let pages = moved.len / PAGE.bytes();
            self.mm(mm).prepare_move(from, to, pages);
            self.mm(mm).table.relocate(from, to, pages, keep_wp);
            self.mm(mm).relocate_huge(from, to, pages);
        }
        let ret = match done.result {
            Ok(addr) => Ret::Ok(addr.raw()),
            Err(errno) => {
                self.leak_changing(mm, asked, errno);
                Ret::Err(errno)
            }
        };
        let list = self.remap_events(asked, &done);
        let run = self.announce(list, ret);
        self.grown(mm, asked, ret, run)
    }

    /// Bug Z5: a move that was prepared and then failed leaves the count raised, for ever. What
    /// counts as prepared: the arguments are in order, and what it would move has a context that
    /// wants to know.
    fn leak_changing(&mut self, mm: MmId, asked: &Mremap, errno: Errno) {
        if !self.profile.has_bug(Bugs::Z5) || !matches!(errno, Errno::ENOMEM | Errno::EFAULT) {
            return;
        }
        let ctx = self.space(mm).find(shims::Addr::new(asked.old)).and_then(|vma| vma.uffd());
        if let Some(ctx) = ctx
            && self.ctx(ctx).features.contains(Features::EVENT_REMAP)
        {
            self.raise_changing(ctx);
        }
    }

    /// In the order of rule d20. What a failing call has unmapped before it failed is
    /// announced as well; that a failing call leaves the count as it was is rule d24.
    fn remap_events(&self, asked: &Mremap, done: &Remapped) -> Vec<(crate::vma::CtxId, Event)> {
        let whole = |len: u64| len.next_multiple_of(PAGE.bytes());
        let (old_len, new_len) = (whole(asked.old_len), whole(asked.new_len));
        let mut list = Vec::new();
        if done.several.is_empty() {
            self.push_unmaps(&mut list, span(asked.new, new_len), &done.target);
        }
        for (range, removed) in &done.several {
            self.push_unmaps(&mut list, *range, removed);
        }
        for moved in &done.moved {
            let &Moved { from, to, len, ctx, still_watched } = moved;
            // d21: an older kernel tells the length it was asked for.
            let len = match self.profile.remap_len {
                RemapLen::Moved => len,
                RemapLen::Asked => old_len,
            };
            if let Some(ctx) = ctx.filter(|_| still_watched) {
                list.push((ctx, Event::Remap { from, to, len }));
            }
        }
        if old_len > new_len {
            let tail = span(asked.old + new_len, old_len - new_len);
            self.push_unmaps(&mut list, tail, &done.tail);
        }
        self.push_unmaps(&mut list, span(asked.old, old_len.min(new_len)), &done.source);
        list
    }
}

fn span(start: u64, len: u64) -> Span {
    Span::new(shims::Addr::new(start), Len::new(len))
}
