//! A leaf of the tree: up to [`LEAF`] VMAs in one piece of memory. Owns its layout, sharing and
//! growth, and what one leaf can tell and do alone.

use std::ops::Deref;

use triomphe::{Arc, HeaderSlice};

use super::super::Vma;
use super::node::{PAD, Summary, rank};

/// The most VMAs in a leaf.
pub(super) const LEAF: usize = 28;
/// A leaf with no more is searched in part.
const FEW: usize = 12;
/// How many VMAs a leaf gets memory for at a time. A piece for 12 is still one of the small
/// sizes of common allocators.
const STEP: usize = 4;

/// What stands before the VMAs: all that a search reads. In the same piece of memory, so that
/// the VMA it finds is not on a page of its own.
#[derive(Clone, Copy)]
pub(super) struct Head {
    len: u32,
    /// In which slot each VMA stands, in address order, and behind them the slots that are
    /// free, the one that is taken next first. VMAs themselves do not move when others come
    /// and go. All slots there is memory for come before those there is none for.
    order: [u8; LEAF],
    /// The start of each VMA, in address order; [`PAD`] beyond the last.
    starts: [u64; LEAF],
}

/// Every slot in its place.
const IN_ORDER: [u8; LEAF] = {
    let mut order = [0; LEAF];
    let mut i = 0;
    while i < LEAF {
        order[i] = i as u8;
        i += 1;
    }
    order
};

/// The head and slots for VMAs; what stands in a free one means nothing.
pub(super) type Body = HeaderSlice<Head, [Vma]>;

/// Up to [`LEAF`] VMAs; one at least in a tree. Cloning shares them until one side changes.
#[derive(Clone)]
pub(super) struct Leaf(Arc<Body>);

impl Leaf {
    /// A leaf of VMAs that come in address order.
    pub(super) fn of(vmas: &[Vma]) -> Leaf {
        let mut head = Head { len: vmas.len() as u32, order: IN_ORDER, starts: [PAD; LEAF] };
        for (start, vma) in head.starts.iter_mut().zip(vmas) {
            *start = vma.start;
        }
        Leaf::with_room(head, vmas.len(), |i| vmas[i])
    }

    /// The leaf with this head, whose VMAs stand in order, and memory for `room` at least. It
    /// grows in small steps: doubling would come to twice what a leaf can hold.
    fn with_room(head: Head, room: usize, vma: impl Fn(usize) -> Vma) -> Leaf {
        let room = room.next_multiple_of(STEP).min(LEAF);
        let len = head.len as usize;
        let all = (0..room).map(|i| vma(if i < len { i } else { 0 }));
        Leaf(Arc::from_header_and_iter(head, all))
    }

    /// A copy with memory for `room` VMAs, enough for those it has and no more than there is. Those
    /// that stand beyond move to where nothing stands.
    fn cut_to(&self, room: usize) -> Leaf {
        let Body { header, slice } = &*self.0;
        let mut leaf = Leaf(Arc::from_header_and_slice(*header, &slice[..room]));
        if room == slice.len() {
            return leaf;
        }
        let Body { header, slice: here } = Arc::get_mut(&mut leaf.0).expect("nobody shares it");
        let len = header.len as usize;
        let (taken, free_slots) = header.order.split_at_mut(len);
        let mut free = taken.iter().fold((1u32 << room) - 1, |free, slot| free & !(1 << slot));
        let mut next = || {
            let slot = free.trailing_zeros() as u8;
            free &= free - 1;
            slot
        };
        for slot in taken.iter_mut().filter(|slot| usize::from(**slot) >= room) {
            let to = next();
            here[usize::from(to)] = slice[usize::from(*slot)];
            *slot = to;
        }
        free_slots[..room - len].fill_with(next);
        free_slots[room - len..].copy_from_slice(&IN_ORDER[room..]);
        leaf
    }

    /// Is this the very same leaf, shared?
    pub(super) fn is_same(&self, other: &Leaf) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The leaf alone, copied first if somebody shares it.
    #[inline(always)]
    pub(super) fn own(&mut self) -> Own<'_> {
        self.own_with_room(0)
    }

    /// The same, with memory for `more` VMAs.
    #[inline(always)]
    fn own_with_room(&mut self, more: usize) -> Own<'_> {
        #[cold]
        #[inline(never)]
        fn copy(leaf: &mut Leaf, more: usize) {
            // A leaf is copied to be changed, and most changes add one VMA at most.
            let room = (leaf.len() + more.max(1)).min(LEAF);
            *leaf = if leaf.0.slice.len() < room {
                let head = Head { order: IN_ORDER, ..leaf.0.header };
                Leaf::with_room(head, room, |i| *leaf.at(i))
            } else {
                leaf.cut_to(room.next_multiple_of(STEP).min(LEAF))
            };
        }
        let lacks = more > 0 && self.0.slice.len() < self.len() + more;
        if lacks || !Arc::is_unique(&self.0) {
            copy(self, more);
        }
        Own(Arc::get_mut(&mut self.0).expect("nobody shares it"))
    }

    /// Replace `remove` VMAs from index `at` on with `insert`; there is room.
    pub(super) fn splice(&mut self, at: usize, remove: usize, insert: &[Vma]) {
        let kept = remove.min(insert.len());
        let mut own = self.own_with_room(insert.len() - kept);
        for (i, vma) in insert[..kept].iter().enumerate() {
            own.change(at + i, |old| *old = *vma);
        }
        for (i, vma) in insert.iter().enumerate().skip(kept) {
            own.insert(at + i, vma);
        }
        for _ in kept..remove {
            own.remove(at + kept);
        }
    }
}

/// A leaf that nobody shares, to be changed where it stands.
pub(super) struct Own<'a>(&'a mut Body);

impl Own<'_> {
    /// Is there memory for one more?
    #[inline(always)]
    pub(super) fn has_room(&self) -> bool {
        self.len() < self.0.slice.len().min(LEAF)
    }

    /// Put `vma` at index `at`; there is room.
    #[inline]
    pub(super) fn insert(&mut self, at: usize, vma: &Vma) {
        let Body { header, slice } = &mut *self.0;
        let len = header.len as usize;
        let slot = header.order[len];
        header.starts.copy_within(at..len, at + 1);
        header.starts[at] = vma.start;
        header.order.copy_within(at..len, at + 1);
        header.order[at] = slot;
        header.len += 1;
        slice[usize::from(slot)] = *vma;
    }

    /// Take out the VMA at index `at`.
    #[inline]
    pub(super) fn remove(&mut self, at: usize) {
        let header = &mut self.0.header;
        let last = header.len as usize - 1;
        let slot = header.order[at];
        header.starts.copy_within(at + 1..=last, at);
        header.starts[last] = PAD;
        header.order.copy_within(at + 1..=last, at);
        header.order[last] = slot;
        header.len -= 1;
    }

    /// Change the VMA at index `at` within its place between its neighbours.
    #[inline(always)]
    pub(super) fn change(&mut self, at: usize, change: impl FnOnce(&mut Vma)) {
        let Body { header, slice } = &mut *self.0;
        let vma = &mut slice[usize::from(header.order[at])];
        change(vma);
        header.starts[at] = vma.start;
    }

    /// The same, where it starts as before: a start that is written again would make the next
    /// search wait.
    #[inline(always)]
    pub(super) fn change_end(&mut self, at: usize, change: impl FnOnce(&mut Vma)) {
        let Body { header, slice } = &mut *self.0;
        change(&mut slice[usize::from(header.order[at])]);
    }
}

/// What a leaf tells.
pub(super) trait View {
    fn len(&self) -> usize;
    /// VMA `i` of those it has.
    fn at(&self, i: usize) -> &Vma;
    /// VMA `i`, if it has so many.
    fn get(&self, i: usize) -> Option<&Vma>;
    fn last(&self) -> &Vma;
    /// Where VMA `i` starts; above every address beyond the last.
    fn start(&self, i: usize) -> u64;
    /// Its VMAs in address order.
    fn to_vec(&self) -> Vec<Vma>;
    /// How many of its VMAs start at or below `addr`.
    fn above(&self, addr: u64) -> usize;
    /// The same, for a leaf that often has few.
    fn above_of_few(&self, addr: u64) -> usize;
    /// The index of the first VMA that ends above `addr`, when `above` start at or below it.
    fn settle(&self, above: usize, addr: u64) -> usize;
    /// How many of its VMAs start below `addr`.
    fn index_of(&self, addr: u64) -> usize;
    /// The largest gap between neighbours among the VMAs `from..to`.
    fn gap(&self, from: usize, to: usize) -> u64;
    fn summary(&self) -> Summary;
    fn with_gap(&self, gap: u64) -> Summary;
    /// Is it a leaf that may be in a tree?
    fn is_sound(&self) -> bool;
}

impl View for Body {
    #[inline(always)]
    fn len(&self) -> usize {
        self.header.len as usize
    }

    #[inline(always)]
    fn at(&self, i: usize) -> &Vma {
        &self.slice[usize::from(self.header.order[i])]
    }

    #[inline(always)]
    fn get(&self, i: usize) -> Option<&Vma> {
        if i < self.len() { Some(self.at(i)) } else { None }
    }

    fn last(&self) -> &Vma {
        self.at(self.len() - 1)
    }

    #[inline(always)]
    fn start(&self, i: usize) -> u64 {
        self.header.starts.get(i).copied().unwrap_or(PAD)
    }

    fn to_vec(&self) -> Vec<Vma> {
        (0..self.len()).map(|i| *self.at(i)).collect()
    }

    #[inline]
    fn above(&self, addr: u64) -> usize {
        rank::<LEAF, 4>(&self.header.starts, addr)
    }

    #[inline(always)]
    fn above_of_few(&self, addr: u64) -> usize {
        if self.len() > FEW {
            return self.above(addr);
        }
        rank::<FEW, 4>(self.header.starts.first_chunk::<FEW>().expect("it is shorter"), addr)
    }

    #[inline(always)]
    fn settle(&self, above: usize, addr: u64) -> usize {
        match above.checked_sub(1) {
            Some(last) if self.at(last).end > addr => last,
            _ => above,
        }
    }

    #[inline]
    fn index_of(&self, addr: u64) -> usize {
        addr.checked_sub(1).map_or(0, |below| self.above(below))
    }

    fn gap(&self, from: usize, to: usize) -> u64 {
        (from + 1..to).map(|i| self.start(i) - self.at(i - 1).end).max().unwrap_or(0)
    }

    fn summary(&self) -> Summary {
        self.with_gap(self.gap(0, self.len()))
    }

    fn with_gap(&self, gap: u64) -> Summary {
        Summary { start: self.start(0), end: self.last().end, gap }
    }

    fn is_sound(&self) -> bool {
        let len = self.len();
        let room = self.slice.len();
        if len == 0 || len > room || room > LEAF {
            return false;
        }
        let mut slots = self.header.order;
        slots[..room].sort_unstable();
        slots == IN_ORDER
            && (0..len).all(|i| self.start(i) == self.at(i).start)
            && (len..LEAF).all(|i| self.start(i) == PAD)
            && (1..len).all(|i| self.at(i - 1).end <= self.start(i))
    }
}

impl Deref for Own<'_> {
    type Target = Body;

    #[inline(always)]
    fn deref(&self) -> &Body {
        self.0
    }
}

impl Deref for Leaf {
    type Target = Body;

    #[inline(always)]
    fn deref(&self) -> &Body {
        &self.0
    }
}
