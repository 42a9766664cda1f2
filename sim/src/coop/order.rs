//! The order in which locks are taken: who took which while holding which. Owns the finding
//! of two orders that contradict each other, whether or not they met in this run.

use super::op::{How, LockId};

/// A lock, and how it is held.
type Held = (LockId, How);

/// A lock was taken while another was held.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Edge {
    pub(super) held: Held,
    pub(super) took: Held,
    pub(super) thread: usize,
    /// Everything that was held.
    with: Vec<Held>,
}

/// The edges of a run, each once.
#[derive(Debug, Default)]
pub(super) struct Order {
    edges: Vec<Edge>,
}

impl Order {
    /// `thread`, which holds `held`, takes `lock`. Returns a circle of edges with a new one in
    /// it, if there is one now that different threads could meet in.
    pub(super) fn took(&mut self, thread: usize, lock: Held, held: &[Held]) -> Option<Vec<Edge>> {
        let mut circle = None;
        for &other in held {
            let edge = Edge { held: other, took: lock, thread, with: held.to_vec() };
            if other.0 == lock.0 || self.edges.contains(&edge) {
                continue;
            }
            if circle.is_none() {
                circle = self.circle(&mut vec![edge.clone()]);
            }
            self.edges.push(edge);
        }
        circle
    }

    /// Go on from the last edge of `path` until its first is reached again.
    fn circle(&self, path: &mut Vec<Edge>) -> Option<Vec<Edge>> {
        let (from, to) = (path[0].held, path[path.len() - 1].took);
        if excludes(from, to) {
            return Some(path.clone());
        }
        for edge in self.edges.iter().filter(|edge| excludes(edge.held, to)) {
            // Edges of one thread never meet; nor do two under a lock that both hold.
            let meets = path.iter().all(|before| {
                let gate = |lock: &Held| edge.with.iter().any(|other| excludes(*lock, *other));
                before.thread != edge.thread && !before.with.iter().any(gate)
            });
            if meets {
                path.push(edge.clone());
                let found = self.circle(path);
                path.pop();
                if found.is_some() {
                    return found;
                }
            }
        }
        None
    }
}

/// Can two threads not have the two at once?
fn excludes(a: Held, b: Held) -> bool {
    a.0 == b.0 && (a.1 == How::Alone || b.1 == How::Alone)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Held = (LockId(0), How::Alone);
    const B: Held = (LockId(1), How::Alone);
    const C: Held = (LockId(2), How::Alone);
    const GATE: Held = (LockId(3), How::Alone);

    #[test]
    fn two_threads_with_two_orders_make_a_circle() {
        let mut order = Order::default();
        assert_eq!(order.took(0, A, &[]), None);
        assert_eq!(order.took(0, B, &[A]), None);
        let circle = order.took(1, A, &[B]).expect("an inversion");
        let steps: Vec<_> = circle.iter().map(|edge| (edge.thread, edge.held, edge.took)).collect();
        assert_eq!(steps, [(1, B, A), (0, A, B)]);
    }

    #[test]
    fn one_thread_alone_and_threads_behind_a_gate_do_not_meet() {
        let mut order = Order::default();
        order.took(0, B, &[A]);
        assert_eq!(order.took(0, A, &[B]), None, "one thread");
        let mut order = Order::default();
        order.took(0, B, &[GATE, A]);
        assert_eq!(order.took(1, A, &[GATE, B]), None, "both hold the gate");
        assert!(order.took(2, A, &[B]).is_some(), "this one does not");
    }

    #[test]
    fn readers_do_not_exclude_each_other() {
        let shared = |lock: Held| (lock.0, How::Shared);
        let mut order = Order::default();
        order.took(0, shared(B), &[shared(A)]);
        assert_eq!(order.took(1, shared(A), &[shared(B)]), None);
        assert!(order.took(2, A, &[B]).is_some(), "a writer does exclude them");
    }

    #[test]
    fn three_threads_make_a_longer_circle() {
        let mut order = Order::default();
        order.took(0, B, &[A]);
        order.took(1, C, &[B]);
        assert_eq!(order.took(2, A, &[C]).map(|circle| circle.len()), Some(3));
    }
}
