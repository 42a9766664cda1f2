//! Guards: pages that nobody may touch, without a mapping of their own (`MADV_GUARD_INSTALL`,
//! `MADV_GUARD_REMOVE`). Owns the walk that puts them in place and the one that takes them away;
//! what an access to one meets is in `fault.rs`.

use super::call::MmId;
use super::did::{Did, HugeDid};
use super::madvise::Walk;
use super::page_table::{Marker, Pte, Vpn};
use super::thp::UNIT;
use super::{Kernel, page_addr};

impl Kernel {
    /// Put a guard on the next page. Where pages are in the way, everything in the part is
    /// zapped and the walk starts over: meanwhile others fault pages in again, and a userfaultfd
    /// is asked for them, but none is told of the zap (rule d13). Any marker becomes a guard.
    pub(super) fn install_guard(
        &mut self,
        mm: MmId,
        walk: &mut Walk,
        start: Vpn,
        end: Vpn,
    ) -> Option<Did> {
        let mm = self.mm(mm);
        loop {
            if walk.zapping {
                let found = mm.table.entries_in(walk.next, end).find(|(_, pte)| !pte.is_guard());
                if let Some((vpn, pte)) = found {
                    if let Some(did) = mm.change_unit(vpn, end, HugeDid::Zap, |_| Pte::None) {
                        walk.next = vpn + UNIT;
                        return Some(did);
                    }
                    mm.table.set(vpn, Pte::None);
                    walk.next = vpn + 1;
                    return Some(zapped(vpn, pte));
                }
                walk.zapping = false;
                walk.next = start;
            }
            let vpn = (walk.next..end).find(|&vpn| !mm.table.get(vpn).is_guard())?;
            if mm.table.get(vpn).is_present() {
                walk.zapping = true;
                walk.next = start;
                continue;
            }
            mm.table.set(vpn, Pte::Marker(Marker::Guard));
            walk.next = vpn + 1;
            return Some(Did::Guard { page: page_addr(vpn) });
        }
    }

    /// Take the next guard away; pages and other markers stay.
    pub(super) fn remove_guard(&mut self, mm: MmId, walk: &mut Walk, end: Vpn) -> Option<Did> {
        let table = &mut self.mm(mm).table;
        let (vpn, pte) = table.entries_in(walk.next, end).find(|(_, pte)| pte.is_guard())?;
        table.set(vpn, Pte::None);
        walk.next = vpn + 1;
        Some(zapped(vpn, pte))
    }
}

fn zapped(vpn: Vpn, pte: Pte) -> Did {
    let page = page_addr(vpn);
    match pte {
        Pte::Present { content, .. } => Did::Zap { page, content },
        Pte::None | Pte::Marker(_) => Did::ZapMarker { page },
    }
}

impl Pte {
    /// Is it a guard?
    pub fn is_guard(self) -> bool {
        matches!(self, Pte::Marker(marker) if marker.is_guard())
    }
}
