//! Atomics: `std::sync::atomic`. Every operation is a scheduling point.
//!
//! # Divergence from real threads
//!
//! Whatever [`Ordering`] is asked for, all operations are sequentially consistent.

pub use std::sync::atomic::Ordering;
use std::sync::atomic::{self as real};

use super::Name;
use crate::coop::{self, Op};

macro_rules! atomic {
    ($($name:ident($value:ty): $($op:ident)*;)*) => {$(
        #[doc = concat!("`std::sync::atomic::", stringify!($name), "`.")]
        #[derive(Debug)]
        pub struct $name {
            name: Name,
            value: real::$name,
        }

        impl $name {
            /// An atomic, called by the place of this call.
            #[track_caller]
            pub fn new(value: $value) -> $name {
                $name { name: Name::here(), value: real::$name::new(value) }
            }

            fn touch(&self) -> &real::$name {
                coop::point(Op::Touch(self.name));
                &self.value
            }

            /// Load.
            pub fn load(&self, _: Ordering) -> $value {
                self.touch().load(Ordering::SeqCst)
            }

            /// Store.
            pub fn store(&self, value: $value, _: Ordering) {
                self.touch().store(value, Ordering::SeqCst);
            }

            /// Store, and return what was there.
            pub fn swap(&self, value: $value, _: Ordering) -> $value {
                self.touch().swap(value, Ordering::SeqCst)
            }

            /// Store `new` if `current` is there.
            pub fn compare_exchange(
                &self,
                current: $value,
                new: $value,
                _: Ordering,
                _: Ordering,
            ) -> Result<$value, $value> {
                let value = self.touch();
                value.compare_exchange(current, new, Ordering::SeqCst, Ordering::SeqCst)
            }

            $(
                #[doc = concat!("`", stringify!($op), "`: returns what was there.")]
                pub fn $op(&self, value: $value, _: Ordering) -> $value {
                    self.touch().$op(value, Ordering::SeqCst)
                }
            )*
        }
    )*};
}

atomic! {
    AtomicBool(bool): fetch_or fetch_and;
    AtomicU32(u32): fetch_add fetch_sub fetch_or fetch_and fetch_max fetch_min;
    AtomicU64(u64): fetch_add fetch_sub fetch_or fetch_and fetch_max fetch_min;
    AtomicUsize(usize): fetch_add fetch_sub fetch_or fetch_and fetch_max fetch_min;
}
