//! The end of a run: what the tracker says, what the kernel's page table says, and what
//! the pages hold. Owns the comparison; nobody touches the memory meanwhile.

use std::os::unix::fs::FileExt;

use handler::PageStates;
use handler::states::{AMBIGUOUS, REMOVED};

use super::ledger::{Ledger, Place};
use super::traffic::{Arena, Trouble};

/// Compare everything; the first difference.
pub fn audit(arena: &Arena<'_>, states: &PageStates) -> Result<(), Trouble> {
    let size = arena.map.page_size().bytes();
    let mut records = states.records().iter().peekable();
    let mut found = vec![0; size as usize];
    let mut image = found.clone();
    for page in 0..arena.map.len().bytes() / size {
        let offset = page * size;
        let record = records.next_if(|record| record.offset() == offset);
        let entry = arena.map.page_entry(offset);
        let present =
            entry.map_err(|e| Trouble::Call(format!("the page table: {e}")))?.is_present();
        let agree = match record.map(|record| record.state()) {
            None | Some(REMOVED) => !present,
            Some(AMBIGUOUS) => true,
            Some(_) => present,
        };
        if !agree {
            let state = record.map_or("untouched", |record| record.name());
            let there = if present { "a page" } else { "no page" };
            return Err(Trouble::WrongByte(format!(
                "page {page}: the snapshot has it as {state}, the kernel maps {there}"
            )));
        }
        // What is absent would be faulted in by a look at it.
        if present {
            check(arena, page, &mut found, &mut image)?;
        }
    }
    match records.next() {
        None => Ok(()),
        Some(record) => Err(Trouble::WrongByte(format!(
            "the snapshot has a page at {:#x}, which is none or out of order",
            record.offset()
        ))),
    }
}

/// Have every word of a page explained.
fn check(arena: &Arena<'_>, page: u64, found: &mut [u8], image: &mut [u8]) -> Result<(), Trouble> {
    let offset = page * found.len() as u64;
    let (before, after) = (arena.ledger.before(page), arena.ledger.after(page));
    arena.map.read_into(offset, found);
    arena
        .image
        .read_exact_at(image, offset)
        .map_err(|e| Trouble::Image(format!("reading it at {offset:#x}: {e}")))?;
    let slot = Ledger::slot(page, found.len() as u64);
    let words = found.as_chunks::<8>().0.iter().zip(image.as_chunks::<8>().0);
    for (index, (found, image)) in words.enumerate() {
        let at = 8 * index as u64;
        let place = if at == slot { Place::Slot } else { Place::Elsewhere };
        let (found, image) = (u64::from_ne_bytes(*found), u64::from_ne_bytes(*image));
        Ledger::explain(page, place, found, image, before, after).map_err(|wrong| {
            Trouble::WrongByte(format!("page {page}, byte {at:#x}, at the end: {wrong}"))
        })?;
    }
    Ok(())
}
