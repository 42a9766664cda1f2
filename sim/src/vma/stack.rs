//! Stack growth (v2.10): a fault below a `GROWSDOWN` VMA. Owns the guard gap's bite.

use shims::{Addr, Errno};

use super::area::{PAGE, PAGE_SHIFT};
use super::{AddressSpace, Vma, VmaFlags};

impl AddressSpace {
    /// A fault at `addr` where nothing is mapped: grow the stack above down to its page. The
    /// grown VMA has an anon_vma and joins nothing.
    ///
    /// Errors: `EFAULT` when what lies above is no stack; `EPERM` below the lowest address;
    /// `ENOMEM` inside the guard gap of what lies below, or beyond a limit. A program sees
    /// each of them as `SIGSEGV`.
    pub fn expand_stack(&mut self, addr: Addr) -> Result<(), Errno> {
        let page = addr.raw() & !(PAGE - 1);
        let cursor = self.tree.seek(page);
        let stack = *cursor.get().ok_or(Errno::EFAULT)?;
        if stack.start <= page {
            return Ok(());
        }
        if !stack.flags.contains(VmaFlags::GROWSDOWN) {
            return Err(Errno::EFAULT);
        }
        if page < self.limits.mmap_min_addr {
            return Err(Errno::EPERM);
        }
        if let Some(prev) = cursor.prev() {
            let repels = !prev.flags.contains(VmaFlags::GROWSDOWN)
                && prev.flags.intersects(VmaFlags::ACCESS);
            if repels && page - prev.end < self.limits.stack_guard_gap {
                return Err(Errno::ENOMEM);
            }
        }
        self.note_anon_fault(Addr::new(stack.start));
        let stack = *self.tree.containing(stack.start).expect("it was just there");
        self.check_growth(&stack, page)?;
        let grow = (stack.start - page) >> PAGE_SHIFT;
        let pgoff = stack.pgoff.checked_sub(grow).ok_or(Errno::ENOMEM)?;
        let grown = Vma { start: page, pgoff, ..stack };
        self.uncount_pages(&stack);
        self.count_pages(&grown);
        self.tree.splice(stack.start, 1, &[grown]);
        Ok(())
    }

    fn check_growth(&self, stack: &Vma, page: u64) -> Result<(), Errno> {
        let grow = (stack.start - page) >> PAGE_SHIFT;
        let total_fits = self.total_pages + grow <= self.limits.rlimit_as >> PAGE_SHIFT;
        let stack_fits = stack.end - page <= self.limits.rlimit_stack;
        let locked = stack.flags.contains(VmaFlags::LOCKED);
        if !total_fits || !stack_fits || (locked && self.lock_limit_exceeded(grow)) {
            return Err(Errno::ENOMEM);
        }
        Ok(())
    }
}
