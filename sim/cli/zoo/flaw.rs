//! The mistakes of the zoo: what was once written, or nearly, in handlers that people use. Owns
//! their names and stories; the code they are made in is `plain.rs`.

macro_rules! flaws {
    ($($name:ident $id:literal $key:literal $about:literal)*) => {
        /// A mistake in a handler.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub enum Flaw {
            $(#[doc = $about] $name,)*
        }

        impl Flaw {
            /// All of them.
            pub const ALL: &'static [Flaw] = &[$(Flaw::$name),*];

            /// Which entries of the list of known bugs it stands for.
            pub fn id(self) -> &'static str {
                match self { $(Flaw::$name => $id),* }
            }

            /// Its name on the command line.
            pub fn key(self) -> &'static str {
                match self { $(Flaw::$name => $key),* }
            }

            /// What is wrong.
            pub fn about(self) -> &'static str {
                match self { $(Flaw::$name => $about),* }
            }
        }
    };
}

flaws! {
    EmptyReadFatal "A1" "empty-read-fatal" "A read that finds nothing ends the handler."
    EmptyReadRetried "A2" "empty-read-retried" "A read that finds nothing is tried again in place, and ends the handler after 32 attempts."
    ExistEndsWorker "A3" "exist-ends-worker" "A worker that meets EEXIST stops serving."
    BufferReused "A5" "buffer-reused" "A worker looks a fault up in the batch, which the next read overwrites."
    BufferAliased "A6" "buffer-aliased" "Every fault of a batch refers to its last message."
    RequestedForEver "A7" "requested-for-ever" "A page counts as requested from before its install, for ever."
    PanicSwallowed "A9, B7" "panic-swallowed" "A worker whose source panics ends, and nobody is told."
    NoEntryFatal "A10, B11" "no-entry-fatal" "ENOENT, for memory that left the registration, ends the handler."
    CommitOutside "A17" "commit-outside" "An install is recorded after the lock was given up, over a removal; presence comes from the record."
    DecideOutside "A19, 3.5" "decide-outside" "Whether a page was removed is looked up before the lock is taken."
    DeferSilently "A20, 3.4" "defer-silently" "A fault is put off, and nobody wakes the reader for it."
    SignalBeforePush "A20" "signal-before-push" "The reader is woken before the fault that was put off is in the queue."
    ChangingFatal "A22" "changing-fatal" "EAGAIN ends the handler."
    PanicRetried "A24" "panic-retried" "A source that panics is asked again without end."
    ShortRead "A34" "short-read" "A source that gave less than a page is taken at its word."
    NoExclusion "A26, B3" "no-exclusion" "Messages are read while installs that were decided before are under way."
    RetryUnderLock "A42" "retry-under-lock" "An install that met EAGAIN is tried again with the lock held that reading needs."
    SourceErrorFatal "A49" "source-error-fatal" "The first error of the source ends the handler."
    ShortCircuit "B1" "short-circuit" "A fault on a page that the record calls installed is taken for served."
    BatchDropped "B6" "batch-dropped" "An unexpected message drops the batch it came in."
    EofIgnored "B8" "eof-ignored" "A read of nothing, from what is no userfaultfd any more, counts as empty."
    ChangingLost "B12" "changing-lost" "A fault that met EAGAIN is forgotten."
    ExistNotWoken "3.1" "exist-not-woken" "EEXIST counts as served, and nobody is woken."
    FieldAsProgress "3.2" "field-as-progress" "A result field of -11 counts as bytes installed."
    ServesInline "A8, 3.3" "serves-inline" "The reader installs by itself and tries again in place, without reading."
    FaultsFirst "3.6" "faults-first" "The faults of a batch are served before its removals are recorded."
    LateJoin "queue" "late-join" "A fault that is read while its page is being installed counts as served by that install."
    RemovesLost "commit" "removal-forgotten" "A removed page is forgotten once it was installed again: the next install is of source bytes."
    OneShort "range" "one-short" "A removal is recorded without its last page."
    InterruptFatal "errno" "interrupt-fatal" "A read that a signal interrupts ends the handler."
    NoMemoryFatal "errno" "no-memory-fatal" "ENOMEM, which passes, ends the handler."
    DeadFatal "A50" "dead-fatal" "ESRCH, for a process that was killed, is an error of the handler."
    ClosesEarly "A25, A35" "closes-early" "Asked to stop, the handler closes its descriptor while workers use it."
    ClosesAtEnd "3.7" "closes-at-end" "Asked to stop, the handler closes the descriptor at last: whoever faults then reads zeros."
    StopDropsQueue "B6" "stop-drops-queue" "Asked to stop, the handler drops the faults it has read and not begun to serve."
    StopDropsDeferred "B6" "stop-drops-deferred" "Asked to stop, the handler drops the faults it has put off, and nobody wakes their threads."
    FetchUnderLock "A27, B10" "fetch-under-lock" "The source is read under the lock that reading needs, and waits for a removal to be read."
    StopMissed "teardown" "stop-missed" "An order to stop is looked at only if nothing is queued."
    WakeForgotten "wake" "wake-forgotten" "Pages are installed with DONTWAKE, and no wake follows."
    LocksCrossed "locking" "locks-crossed" "The reader takes the two locks in the other order."
    TailUnchecked "A4" "tail-unchecked" "An image that ends within its last page is read as if that page were whole."
    FlagsMixed "A12, errno" "flags-mixed" "ZEROPAGE is given a flag of COPY, and answers EINVAL."
    BellEmptied "A20, queue" "bell-emptied" "The bell is emptied after the faults that were put off were taken: one that came between waits for ever."
    DeferredDecided "A19, ordering" "deferred-decided" "A fault that is tried again keeps what was decided at first, whatever was removed since."
    PrefetchLost "B12" "prefetch-lost" "A fault is left to the prefetcher that has the page in hand, and that gives it up at EAGAIN."
    PrefetchOutlives "A35, A47" "prefetch-outlives" "Asked to stop, the handler closes its descriptor while the prefetcher uses it."
    PrefetchUnlocked "locking" "prefetch-unlocked" "The prefetcher installs without the lock that keeps installs and reads apart."
    PartialIgnored "errno" "partial-ignored" "A COPY that came to less than it was asked for counts as all of it."
    ExistFatal "errno" "exist-fatal" "EEXIST ends the handler."
    BytesShared "source" "bytes-shared" "All workers fetch into one buffer."
    RegionSpanned "B14, range" "region-spanned" "A removal over two regions is recorded in the first of them alone."
    ErrorSticks "B17" "error-sticks" "Started again after an error, the handler ends with the old one."
    RetriedAtOnce "B9, errno" "retried-at-once" "A fault that met EAGAIN is tried again at once, and again: every lock is free meanwhile, and nothing waits."
    EveryFaultQueued "A36, queue" "every-fault-queued" "Each waiter of a page is a request of its own, and each meets EAGAIN."
    PoolShared "A44" "pool-shared" "Pages of zeros, which need no bytes, queue behind reads of the source that do not come back."
    NewFirst "ordering" "new-first" "Faults that were put off are tried again when no new one is queued."
    ClientFirst "3.13" "client-first" "A worker turns to the second region when nothing is queued for the first."
    CancelIgnored "A49" "cancel-ignored" "A source that fails is asked again although the handler was asked to stop, which ends every pause."
    WaitUnchecked "locking" "wait-unchecked" "A worker looks into the queue, lets the lock go, and sleeps without looking again."
}
