//! Mutual exclusion.

use core::fmt;
use core::ops::{Deref, DerefMut};
use std::sync::{LockResult, TryLockError, TryLockResult};

use super::Name;
use crate::coop::{self, How, LockId, Op, Reply};

/// `std::sync::Mutex`. Never poisoned: a panic of a handler's thread ends the run.
pub struct Mutex<T: ?Sized> {
    id: LockId,
    /// The search decides who enters, so this is always free.
    value: std::sync::Mutex<T>,
}

/// Access to what a [`Mutex`] protects.
pub struct MutexGuard<'a, T: ?Sized> {
    pub(super) mutex: &'a Mutex<T>,
    /// `None` only while its thread waits on a condition.
    value: Option<std::sync::MutexGuard<'a, T>>,
}

impl<T> Mutex<T> {
    /// A mutex around `value`, called by the place of this call.
    #[track_caller]
    pub fn new(value: T) -> Mutex<T> {
        Mutex::with_name(Name::here(), value)
    }

    /// A mutex with a name of its own.
    #[track_caller]
    pub fn named(name: &'static str, value: T) -> Mutex<T> {
        Mutex::with_name(Name::Given(name), value)
    }

    #[track_caller]
    fn with_name(name: Name, value: T) -> Mutex<T> {
        let id = coop::with(|run| run.add_lock(name, false)).expect(OUTSIDE);
        Mutex { id, value: std::sync::Mutex::new(value) }
    }

    /// What it protects.
    pub fn into_inner(self) -> LockResult<T> {
        Ok(self.value.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }
}

pub(super) const OUTSIDE: &str = "locks of a search are made inside a search only";

impl<T: ?Sized> Mutex<T> {
    /// Wait for it and take it.
    pub fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        coop::point(Op::Lock { lock: self.id, how: How::Alone });
        Ok(self.enter())
    }

    /// Take it if it is free.
    pub fn try_lock(&self) -> TryLockResult<MutexGuard<'_, T>> {
        match coop::point(Op::TryLock { lock: self.id, how: How::Alone }) {
            Reply::Is(true) => Ok(self.enter()),
            _ => Err(TryLockError::WouldBlock),
        }
    }

    /// What it protects: nobody else has a reference.
    pub fn get_mut(&mut self) -> LockResult<&mut T> {
        Ok(self.value.get_mut().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }

    pub(super) fn id(&self) -> LockId {
        self.id
    }

    fn enter(&self) -> MutexGuard<'_, T> {
        MutexGuard { mutex: self, value: Some(self.value()) }
    }

    fn value(&self) -> std::sync::MutexGuard<'_, T> {
        match self.value.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => unreachable!("two threads of a search hold one lock"),
        }
    }
}

impl<T: ?Sized> MutexGuard<'_, T> {
    /// Give the lock up while `wait` runs, which gives it back.
    pub(super) fn without<R>(&mut self, wait: impl FnOnce() -> R) -> R {
        self.value = None;
        let result = wait();
        self.value = Some(self.mutex.value());
        result
    }
}

impl<T: ?Sized> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        // A thread that was unwound while it waited on a condition does not hold the lock.
        if self.value.take().is_some() {
            coop::with(|run| run.release(self.mutex.id));
        }
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.value.as_deref().expect("the lock is held")
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_deref_mut().expect("the lock is held")
    }
}

impl<T: Default> Default for Mutex<T> {
    #[track_caller]
    fn default() -> Mutex<T> {
        Mutex::new(T::default())
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
