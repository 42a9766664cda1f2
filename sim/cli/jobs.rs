//! Work on several processors whose results count in the order in which the work was listed:
//! who was how fast changes nothing. Owns the threads.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread;

/// Results that may wait for their turn, per job.
const AHEAD: usize = 64;

/// As many jobs as there are processors.
pub fn processors() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

/// Do `work` on each of `items` with `jobs` threads, and hand the results to `fold` in the
/// order of the items, on the caller's thread. Ends when the items do, or when `fold` returns
/// false; what was done beyond that is thrown away.
pub fn in_order<T: Send, R: Send>(
    items: impl Iterator<Item = T> + Send,
    jobs: usize,
    work: impl Fn(&T) -> R + Sync,
    mut fold: impl FnMut(T, R) -> bool,
) {
    if jobs <= 1 {
        for item in items {
            let result = work(&item);
            if !fold(item, result) {
                return;
            }
        }
        return;
    }
    let items = Mutex::new(items.enumerate());
    let over = AtomicBool::new(false);
    let (sender, results) = sync_channel(AHEAD * jobs);
    thread::scope(|scope| {
        for _ in 0..jobs {
            let (sender, items, over, work) = (sender.clone(), &items, &over, &work);
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    // A panic of another job has to end this one as well.
                    let Ok(mut list) = items.lock() else { return };
                    let Some((place, item)) = list.next() else { return };
                    drop(list);
                    let result = work(&item);
                    if sender.send((place, item, result)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let mut early = BTreeMap::new();
        let mut next = 0;
        'results: while let Ok((place, item, result)) = results.recv() {
            early.insert(place, (item, result));
            while let Some((item, result)) = early.remove(&next) {
                next += 1;
                if !fold(item, result) {
                    over.store(true, Ordering::Relaxed);
                    break 'results;
                }
            }
        }
        // Whoever waits to send learns from this that nobody listens any more.
        drop(results);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_items_whoever_was_faster() {
        let slow = |n: &u64| (0..(n * 7919) % 50_000).fold(*n, |a, b| a ^ std::hint::black_box(b));
        let run = |jobs| {
            let mut seen = Vec::new();
            in_order(0..500u64, jobs, slow, |n, result| {
                seen.push((n, result));
                n < 400
            });
            seen
        };
        let one = run(1);
        assert_eq!(one.len(), 401);
        assert_eq!(one, run(2));
        assert_eq!(one, run(5));
    }
}
