//! Copies into what is there. Owns how a state takes the place of another: field by field, so that
//! the room which the other had is used again. A campaign begins each walk in the world that the
//! last walk is done with.

/// `Clone` for a type whose `clone_from` goes through its fields. Those that it `shares` are behind
/// an `Arc` that is nearly always the same.
macro_rules! copy_by_field {
    (
        $type:ident $(<$param:ident: $bound:path>)?
        $(shares { $($shared:ident),* })?
        copies { $($field:ident),* $(,)? }
    ) => {
        impl $(<$param: $bound>)? Clone for $type $(<$param>)? {
            fn clone(&self) -> Self {
                let $type { $($($shared,)*)? $($field),* } = self;
                $type {
                    $($($shared: std::sync::Arc::clone($shared),)*)?
                    $($field: Clone::clone($field)),*
                }
            }

            fn clone_from(&mut self, other: &Self) {
                let $type { $($($shared,)*)? $($field),* } = other;
                $($(
                    if !std::sync::Arc::ptr_eq(&self.$shared, $shared) {
                        self.$shared = std::sync::Arc::clone($shared);
                    }
                )*)?
                $(Clone::clone_from(&mut self.$field, $field);)*
            }
        }
    };
}

pub(crate) use copy_by_field;
