//! A lock that readers share. A writer who waits goes before readers who come later.

use core::fmt;
use core::ops::{Deref, DerefMut};
use std::sync::{LockResult, TryLockError};

use super::Name;
use super::mutex::OUTSIDE;
use crate::coop::{self, How, LockId, Op};

/// `std::sync::RwLock`. Never poisoned.
///
/// A thread that reads twice at once can wait for ever, for a writer in between: a deadlock of
/// the standard library's lock on Linux as well.
pub struct RwLock<T: ?Sized> {
    id: LockId,
    /// The search decides who enters, so this is always free.
    value: std::sync::RwLock<T>,
}

/// Shared access to what an [`RwLock`] protects.
pub struct RwLockReadGuard<'a, T: ?Sized> {
    id: LockId,
    value: std::sync::RwLockReadGuard<'a, T>,
}

/// Access to what an [`RwLock`] protects.
pub struct RwLockWriteGuard<'a, T: ?Sized> {
    id: LockId,
    value: std::sync::RwLockWriteGuard<'a, T>,
}

impl<T> RwLock<T> {
    /// A lock around `value`, called by the place of this call.
    #[track_caller]
    pub fn new(value: T) -> RwLock<T> {
        RwLock::with_name(Name::here(), value)
    }

    /// A lock with a name of its own.
    #[track_caller]
    pub fn named(name: &'static str, value: T) -> RwLock<T> {
        RwLock::with_name(Name::Given(name), value)
    }

    #[track_caller]
    fn with_name(name: Name, value: T) -> RwLock<T> {
        let id = coop::with(|run| run.add_lock(name, true)).expect(OUTSIDE);
        RwLock { id, value: std::sync::RwLock::new(value) }
    }
}

impl<T: ?Sized> RwLock<T> {
    /// Wait for it and take it together with other readers.
    pub fn read(&self) -> LockResult<RwLockReadGuard<'_, T>> {
        coop::point(Op::Lock { lock: self.id, how: How::Shared });
        let value = match self.value.try_read() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => unreachable!("a reader and a writer hold one lock"),
        };
        Ok(RwLockReadGuard { id: self.id, value })
    }

    /// Wait for it and take it alone.
    pub fn write(&self) -> LockResult<RwLockWriteGuard<'_, T>> {
        coop::point(Op::Lock { lock: self.id, how: How::Alone });
        let value = match self.value.try_write() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => unreachable!("two threads hold one lock"),
        };
        Ok(RwLockWriteGuard { id: self.id, value })
    }
}

impl<T: ?Sized> Drop for RwLockReadGuard<'_, T> {
    fn drop(&mut self) {
        coop::with(|run| run.release(self.id));
    }
}

impl<T: ?Sized> Drop for RwLockWriteGuard<'_, T> {
    fn drop(&mut self) {
        coop::with(|run| run.release(self.id));
    }
}

impl<T: ?Sized> Deref for RwLockReadGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: ?Sized> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: ?Sized> DerefMut for RwLockWriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}
