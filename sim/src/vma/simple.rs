//! The commonest `mmap`: private anonymous memory at a place that is free. Owns a shortcut
//! and no rule: whatever it does not take, and every error, is `map.rs`'s business.

use super::area::PAGE;
use super::merge::{self, Joins};
use super::space::{is_aligned, is_data};
use super::tree::Near;
use super::{AddressSpace, Limits, MapFlags, Mmap, Rules, Vma, VmaFlags};

impl AddressSpace {
    /// Map what was asked if it is simple and nothing speaks against it, in one descent.
    /// False, and nothing has changed, otherwise.
    #[inline(always)]
    pub(super) fn map_simply(&mut self, request: &Mmap) -> bool {
        const SIMPLE: MapFlags =
            MapFlags::PRIVATE.union(MapFlags::ANONYMOUS).union(MapFlags::FIXED);
        let simple = request.flags == SIMPLE && request.file.is_none() && request.offset == 0;
        let start = request.addr;
        let Limits { max_map_count, task_size, mmap_min_addr, rlimit_as, rlimit_data, .. } =
            self.limits;
        if !simple
            || !is_aligned(start)
            || start < mmap_min_addr
            || start > task_size
            || request.len == 0
            || request.len > task_size - start
            || self.map_count() > max_map_count
            || !self.future_flags.is_empty()
        {
            return false;
        }
        let end = start + request.len.next_multiple_of(PAGE);
        let flags = super::map::charge_flags(request.prot.flags() | VmaFlags::MAY);
        let vma = Vma::anonymous(start, end, flags);
        let pages = vma.pages();
        let data = if is_data(flags) { pages } else { 0 };
        if self.total_pages + pages > rlimit_as / PAGE
            || (data > 0 && self.data_pages + data > rlimit_data / PAGE)
        {
            return false;
        }
        let rules = &self.rules;
        let done = match self.tree.near_alone(start) {
            Some(near) => map_near(rules, near, &vma),
            None => match self.tree.near(start) {
                Some(near) => map_near(rules, near, &vma),
                None => false,
            },
        };
        if done {
            self.total_pages += pages;
            self.data_pages += data;
        }
        done
    }
}

/// Put `vma` into the leaf if its range is free there, joined with its neighbours where
/// possible. False, and nothing has changed, otherwise.
#[inline(always)]
fn map_near(rules: &Rules, near: Near<'_>, vma: &Vma) -> bool {
    let touches = near.start() == vma.end;
    if !near.sees_prev() || !near.knows(0) || near.start() < vma.end || (touches && !near.sees()) {
        return false;
    }
    let prev = near.prev().filter(|prev| prev.end == vma.start);
    let next = if touches { near.get() } else { None };
    match merge::joins(rules, prev, vma, next) {
        Joins::Nobody => near.insert(vma),
        Joins::Prev => near.grow_prev(vma.end, |prev| merge::grow_up(rules, prev, vma)),
        Joins::Next => near.grow_down(|next| merge::grow_down(rules, next, vma)),
        Joins::Both => near.join(|prev, next| merge::bridge(rules, prev, vma, next)),
    }
}
