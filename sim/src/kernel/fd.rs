//! Descriptor tables and open files: which number means which file, and how many references
//! keep a file open (rule a19). Knows nothing of threads, and of a userfaultfd only which
//! context its file stands for: what the end of the last reference does is `file_call.rs`'s
//! business.

use std::collections::BTreeMap;

use bitflags::bitflags;
use shims::Errno;

use crate::vma::CtxId;

/// The number of a descriptor.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Fd(pub i32);

bitflags! {
    /// What `userfaultfd(2)` was asked to make of the new file and of its descriptor. A
    /// child's userfaultfd starts with the same (rule d28).
    #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
    pub(crate) struct Created: u8 {
        const CLOEXEC = 1 << 0;
        const NONBLOCK = 1 << 1;
    }
}

/// What an open file is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum FileKind {
    /// A userfaultfd.
    Uffd(CtxId),
    /// `/dev/userfaultfd`.
    Device,
}

/// An open file, by its place among all of them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct FileId(u32);

/// A table of descriptors, by its place among all of them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct TableId(u32);

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct OpenFile {
    kind: FileKind,
    /// `O_NONBLOCK`, as it is now.
    nonblock: bool,
    /// Descriptors, and calls that are inside.
    refs: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Slot {
    file: FileId,
    cloexec: bool,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Table {
    slots: BTreeMap<i32, Slot>,
    /// Processes that share it (`CLONE_FILES`).
    users: u32,
}

/// All open files and all tables.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Files {
    open: Vec<OpenFile>,
    tables: Vec<Table>,
}

impl Files {
    /// An empty table with one user.
    pub(super) fn new_table(&mut self) -> TableId {
        self.push_table(BTreeMap::new())
    }

    fn push_table(&mut self, slots: BTreeMap<i32, Slot>) -> TableId {
        self.tables.push(Table { slots, users: 1 });
        TableId(u32::try_from(self.tables.len() - 1).expect("fewer than 2^32 tables"))
    }

    /// A copy for a child: every file in it has one reference more.
    pub(super) fn copy_table(&mut self, of: TableId) -> TableId {
        let slots = self.table(of).slots.clone();
        for slot in slots.values() {
            self.hold(slot.file);
        }
        self.push_table(slots)
    }

    /// The same table for one process more.
    pub(super) fn share_table(&mut self, of: TableId) -> TableId {
        self.tables[of.0 as usize].users += 1;
        of
    }

    /// One user less; the last one closes everything. Returns the userfaultfds whose last
    /// reference that was, in the order of their numbers.
    pub(super) fn leave_table(&mut self, table: TableId) -> Vec<CtxId> {
        let table = &mut self.tables[table.0 as usize];
        table.users -= 1;
        if table.users > 0 {
            return Vec::new();
        }
        let slots = core::mem::take(&mut table.slots);
        slots.values().filter_map(|slot| self.put(slot.file)).collect()
    }

    /// `exec`: close what is marked for it.
    pub(super) fn close_on_exec(&mut self, table: TableId) -> Vec<CtxId> {
        let slots = &mut self.tables[table.0 as usize].slots;
        let closed: Vec<_> = slots.values().filter(|slot| slot.cloexec).copied().collect();
        slots.retain(|_, slot| !slot.cloexec);
        closed.into_iter().filter_map(|slot| self.put(slot.file)).collect()
    }

    /// A new open file, without a reference as yet.
    pub(super) fn open(&mut self, kind: FileKind, nonblock: bool) -> FileId {
        self.open.push(OpenFile { kind, nonblock, refs: 0 });
        FileId(u32::try_from(self.open.len() - 1).expect("fewer than 2^32 files"))
    }

    /// The lowest number that is free, if it is below `limit`.
    pub(super) fn free(&self, table: TableId, limit: u32) -> Result<Fd, Errno> {
        let slots = &self.table(table).slots;
        let number = (0..).find(|number| !slots.contains_key(number)).expect("some number is free");
        if i64::from(number) < i64::from(limit) { Ok(Fd(number)) } else { Err(Errno::EMFILE) }
    }

    /// Give `file` the number `fd`, which is free.
    pub(super) fn install(&mut self, table: TableId, fd: Fd, file: FileId, cloexec: bool) {
        self.hold(file);
        let old = self.tables[table.0 as usize].slots.insert(fd.0, Slot { file, cloexec });
        assert!(old.is_none(), "descriptor {} was free", fd.0);
    }

    /// The file behind a number.
    pub(super) fn file(&self, table: TableId, fd: Fd) -> Result<FileId, Errno> {
        self.table(table).slots.get(&fd.0).map(|slot| slot.file).ok_or(Errno::EBADF)
    }

    pub(super) fn cloexec(&self, table: TableId, fd: Fd) -> bool {
        self.table(table).slots.get(&fd.0).is_some_and(|slot| slot.cloexec)
    }

    /// The number means nothing any more. The context, if that was its last reference.
    pub(super) fn close(&mut self, table: TableId, fd: Fd) -> Result<Option<CtxId>, Errno> {
        let slots = &mut self.tables[table.0 as usize].slots;
        let slot = slots.remove(&fd.0).ok_or(Errno::EBADF)?;
        Ok(self.put(slot.file))
    }

    pub(super) fn kind(&self, file: FileId) -> FileKind {
        self.open[file.0 as usize].kind
    }

    pub(super) fn nonblock(&self, file: FileId) -> bool {
        self.open[file.0 as usize].nonblock
    }

    pub(super) fn set_nonblock(&mut self, file: FileId, on: bool) {
        self.open[file.0 as usize].nonblock = on;
    }

    /// One reference more.
    pub(super) fn hold(&mut self, file: FileId) {
        self.open[file.0 as usize].refs += 1;
    }

    /// One reference less: the context, if it was the last.
    pub(super) fn put(&mut self, file: FileId) -> Option<CtxId> {
        let file = &mut self.open[file.0 as usize];
        file.refs = file.refs.checked_sub(1).expect("who gives a reference back has one");
        match file.kind {
            FileKind::Uffd(ctx) if file.refs == 0 => Some(ctx),
            FileKind::Uffd(_) | FileKind::Device => None,
        }
    }

    fn table(&self, table: TableId) -> &Table {
        &self.tables[table.0 as usize]
    }
}
