//! The state of a run of a handler's threads: who is about to do what, who holds which lock,
//! what lies in which channel. Owns when an operation is possible and what it does; runs no
//! code of the handler.

use shims::Time;

use super::fiber::Fiber;
use super::op::{ChannelId, CondId, How, Input, LockId, Op, Reply};
use super::order::Order;
use crate::kernel::Call;
use crate::sync::Name;
use crate::world::{Failure, View};

/// How often a handler may catch the unwinding of its run before it is given up.
const CAUGHT: u32 = 1_000;

/// A thread of the handler.
#[derive(Debug)]
pub(crate) struct Thread {
    pub(super) name: String,
    /// Where it stands; `None` while it runs, and when it has ended.
    pub(super) op: Option<Op>,
    reply: Option<Reply>,
    /// The locks it holds, in the order in which it took them.
    pub(super) held: Vec<(LockId, How)>,
    pub(super) ended: bool,
    /// Its stack cannot be unwound.
    pub(super) abandoned: bool,
    /// It runs on the stack of this one, as a member of its team.
    pub(super) host: Option<usize>,
}

/// A lock.
#[derive(Debug)]
pub(super) struct Lock {
    pub(super) name: Name,
    /// Can it be shared?
    shares: bool,
    pub(super) writer: Option<usize>,
    pub(super) readers: Vec<usize>,
    /// Has somebody who wants it alone asked, and waits? Readers who come later let him
    /// go first, as the locks of the standard library and of Go do.
    pub(super) asked: Vec<usize>,
}

/// A condition.
#[derive(Debug)]
pub(super) struct Cond {
    pub(super) name: Name,
    /// The lock its waiters gave up.
    lock: Option<LockId>,
    waiting: u64,
    /// Waiters that are to go on.
    woken: u64,
    /// Notifications for one of several waiters: which is not decided yet.
    tokens: Vec<u64>,
}

/// A channel. What is in it belongs to the channel's type.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) name: Name,
    len: usize,
    room: Option<usize>,
    senders: usize,
    receiver: bool,
}

/// A run.
pub(crate) struct Core {
    pub(super) threads: Vec<Thread>,
    locks: Vec<Lock>,
    conds: Vec<Cond>,
    channels: Vec<Channel>,
    order: Order,
    /// The stacks of the threads that have one of their own, while they do not run.
    pub(super) fibers: Vec<Option<Fiber>>,
    bell: bool,
    /// The handler was asked to stop.
    pub(super) stopping: bool,
    pub(super) now: Time,
    /// Who runs.
    pub(super) current: usize,
    /// How many threads there may be.
    room: usize,
    over: bool,
    /// How often code has caught the unwinding of the run.
    caught: u32,
    pub(super) failure: Option<Failure>,
    /// What the handler ended with.
    pub(super) result: Option<Result<(), String>>,
}

impl Core {
    /// A run in which nothing has happened, of at most `room` threads; the first is `main`.
    pub(super) fn new(room: usize, main: &str) -> Core {
        let mut core = Core {
            threads: Vec::with_capacity(room),
            locks: Vec::new(),
            conds: Vec::new(),
            channels: Vec::new(),
            order: Order::default(),
            fibers: Vec::new(),
            bell: false,
            stopping: false,
            now: Time::ZERO,
            current: 0,
            room,
            over: false,
            caught: 0,
            failure: None,
            result: None,
        };
        core.add_thread(main.to_owned(), None);
        core
    }

    /// Is the run over, and every thread to end?
    pub(super) fn over(&self) -> bool {
        self.over
    }

    /// End it.
    pub(super) fn end(&mut self) {
        self.over = true;
    }

    pub(crate) fn now(&self) -> Time {
        self.now
    }

    fn fail(&mut self, failure: Failure) {
        self.failure.get_or_insert(failure);
    }

    /// A new thread. Its name is made unique: schedules go by it.
    pub(crate) fn add_thread(&mut self, name: String, host: Option<usize>) -> usize {
        assert!(
            self.threads.len() < self.room,
            "the handler starts more than {} threads; `Coop::threads` makes room",
            self.room
        );
        let id = self.threads.len();
        let name = name.replace([':', '\n'], "-");
        let name = if name.is_empty() { format!("thread{id}") } else { name };
        let taken = |name: &str| self.threads.iter().any(|thread| thread.name == name);
        let name = match taken(&name) {
            false => name,
            true => (2..)
                .map(|n| format!("{name}#{n}"))
                .find(|name| !taken(name))
                .expect("there are few threads"),
        };
        let op = Some(Op::Start);
        let thread = Thread {
            name,
            op,
            reply: None,
            held: Vec::new(),
            ended: false,
            abandoned: false,
            host,
        };
        self.threads.push(thread);
        id
    }

    pub(crate) fn add_lock(&mut self, name: Name, shares: bool) -> LockId {
        let lock = Lock { name, shares, writer: None, readers: Vec::new(), asked: Vec::new() };
        self.locks.push(lock);
        LockId(self.locks.len() - 1)
    }

    pub(crate) fn add_cond(&mut self, name: Name) -> CondId {
        self.conds.push(Cond { name, lock: None, waiting: 0, woken: 0, tokens: Vec::new() });
        CondId(self.conds.len() - 1)
    }

    /// A channel with one sender, and room for so many messages.
    pub(crate) fn add_channel(&mut self, name: Name, room: Option<usize>) -> ChannelId {
        self.channels.push(Channel { name, len: 0, room, senders: 1, receiver: true });
        ChannelId(self.channels.len() - 1)
    }

    pub(crate) fn add_sender(&mut self, channel: ChannelId) {
        self.channels[channel.0].senders += 1;
    }

    pub(crate) fn drop_sender(&mut self, channel: ChannelId) {
        self.channels[channel.0].senders -= 1;
    }

    pub(crate) fn drop_receiver(&mut self, channel: ChannelId) {
        self.channels[channel.0].receiver = false;
    }

    pub(super) fn lock(&self, lock: LockId) -> &Lock {
        &self.locks[lock.0]
    }

    pub(super) fn cond(&self, cond: CondId) -> &Cond {
        &self.conds[cond.0]
    }

    pub(super) fn channel(&self, channel: ChannelId) -> &Channel {
        &self.channels[channel.0]
    }

    /// Does the running thread hold the lock that the waiters of `cond` need? Then nobody can
    /// begin to wait before it lets go, and the moment of a notification makes no difference.
    pub(crate) fn keeps_out_waiters(&self, cond: CondId) -> bool {
        let held = &self.threads[self.current].held;
        match self.conds[cond.0].lock {
            Some(lock) => held.iter().any(|(held, _)| *held == lock),
            // Nobody has waited yet. Whoever will needs a lock, and it is this one as a rule.
            None => !held.is_empty(),
        }
    }

    /// Has the thread ended?
    pub(crate) fn ended(&self, thread: usize) -> bool {
        self.threads[thread].ended
    }

    /// Can another message come?
    pub(crate) fn has_senders(&self, channel: ChannelId) -> bool {
        self.channels[channel.0].senders > 0
    }

    /// The running thread stops before `op`.
    pub(super) fn announce(&mut self, op: Op) {
        let me = self.current;
        if let Op::Wait { cond, lock, .. } = op {
            self.release(lock);
            self.conds[cond.0].waiting |= 1 << me;
            self.conds[cond.0].lock = Some(lock);
        }
        self.threads[me].op = Some(op);
        if let Some(failure) = self.deadlock(me) {
            self.fail(failure);
        }
    }

    pub(super) fn take_reply(&mut self) -> Option<Reply> {
        let current = self.current;
        self.threads[current].reply.take()
    }

    fn free(&self, thread: usize, lock: LockId, how: How) -> bool {
        let lock = &self.locks[lock.0];
        match how {
            How::Alone => lock.writer.is_none() && lock.readers.is_empty(),
            How::Shared => lock.writer.is_none() && lock.asked.iter().all(|asked| *asked == thread),
        }
    }

    /// Has the thread yet to ask for a lock that is not free? Asking shows: readers who come
    /// later let a writer go first.
    fn asks(&self, thread: usize, lock: LockId, how: How) -> bool {
        let lock = &self.locks[lock.0];
        how == How::Alone && lock.shares && !lock.asked.contains(&thread)
    }

    fn take(&mut self, thread: usize, lock: LockId, how: How, waits: bool) {
        let taken = &mut self.locks[lock.0];
        match how {
            How::Alone => taken.writer = Some(thread),
            How::Shared => taken.readers.push(thread),
        }
        taken.asked.retain(|asked| *asked != thread);
        let held = &self.threads[thread].held;
        // Who does not wait for a lock cannot be in a circle because of it.
        if waits
            && !held.is_empty()
            && let Some(turned) = self.order.took(thread, (lock, how), held)
        {
            let failure = self.inversion(&turned);
            self.fail(failure);
        }
        self.threads[thread].held.push((lock, how));
    }

    /// The running thread gives a lock up.
    pub(crate) fn release(&mut self, lock: LockId) {
        let me = self.current;
        let released = &mut self.locks[lock.0];
        if released.writer == Some(me) {
            released.writer = None;
        } else if let Some(at) = released.readers.iter().position(|reader| *reader == me) {
            released.readers.swap_remove(at);
        }
        let held = &mut self.threads[me].held;
        if let Some(at) = held.iter().rposition(|(held, _)| *held == lock) {
            held.remove(at);
        }
    }

    /// Can the thread do what it is about to?
    pub(super) fn ready(&self, thread: usize, view: &View<'_>) -> bool {
        let Some(op) = &self.threads[thread].op else { return false };
        let passed = |until: &Option<Time>| until.is_some_and(|until| until <= view.now());
        match op {
            Op::Start
            | Op::Yield
            | Op::Touch(_)
            | Op::Call(_)
            | Op::Fetch { .. }
            | Op::Ring
            | Op::TryLock { .. }
            | Op::Notify { .. }
            | Op::TryRecv { .. } => true,
            Op::InCall { .. } => view.can_step(),
            Op::Poll { until } => view.readable() || self.bell || passed(until),
            Op::Sleep { until } | Op::Late { until } => *until <= view.now(),
            Op::UntilStopped => self.stopping,
            Op::Lock { lock, how } => {
                self.free(thread, *lock, *how) || self.asks(thread, *lock, *how)
            }
            Op::Relock { lock, .. } => self.free(thread, *lock, How::Alone),
            Op::Wait { cond, until, .. } => self.conds[cond.0].notified(thread) || passed(until),
            Op::Send { channel } => {
                let channel = &self.channels[channel.0];
                !channel.receiver || channel.room.is_none_or(|room| channel.len < room)
            }
            Op::Recv { channel, until } => {
                let channel = &self.channels[channel.0];
                channel.len > 0 || channel.senders == 0 || passed(until)
            }
            Op::Join { thread } => self.threads[*thread].ended,
            Op::JoinTeam { first, count } => {
                self.threads[*first..first + count].iter().all(|thread| thread.ended)
            }
        }
    }

    /// A thread that can go on whatever happens outside, if there is one.
    pub(super) fn ready_alone(&self) -> Option<usize> {
        (0..self.threads.len()).find(|thread| match &self.threads[*thread].op {
            Some(Op::Start | Op::Yield | Op::Touch(_) | Op::Notify { .. } | Op::Ring) => true,
            Some(Op::Lock { lock, how }) => self.free(*thread, *lock, *how),
            Some(Op::TryLock { .. } | Op::TryRecv { .. }) => true,
            _ => false,
        })
    }

    /// The next moment after `now` at which a thread goes on by itself.
    pub(super) fn deadline(&self, now: Time) -> Option<Time> {
        let until = |thread: &Thread| match thread.op {
            Some(Op::Poll { until } | Op::Wait { until, .. } | Op::Recv { until, .. }) => until,
            Some(Op::Sleep { until } | Op::Late { until }) => Some(until),
            _ => None,
        };
        self.threads.iter().filter_map(until).filter(|until| *until > now).min()
    }

    /// Is what the thread waits for the bell?
    pub(super) fn bell(&self) -> bool {
        self.bell
    }

    /// The thread does what it was about to do. Tells whether it goes on.
    pub(super) fn perform(&mut self, thread: usize, input: Input) -> bool {
        let op = self.threads[thread].op.take().expect("a thread that can move is about to");
        match self.effect(thread, &op, input) {
            Effect::Reply(reply) => {
                // Code that begins waits for no answer.
                self.threads[thread].reply = (op != Op::Start).then_some(reply);
                true
            }
            Effect::Now(op) => {
                self.threads[thread].op = Some(op);
                if let Some(failure) = self.deadlock(thread) {
                    self.fail(failure);
                }
                false
            }
        }
    }

    fn effect(&mut self, thread: usize, op: &Op, input: Input) -> Effect {
        let reply = match (op, input) {
            (Op::Call(call), Input::Under) => {
                return Effect::Now(Op::InCall { read: matches!(call, Call::Read { .. }) });
            }
            (Op::InCall { read }, Input::Under) => return Effect::Now(Op::InCall { read: *read }),
            (Op::Call(_) | Op::InCall { .. }, Input::Ret(ret, events)) => Reply::Ret(ret, events),
            (Op::Poll { .. }, Input::Wakeup(wakeup)) => {
                if wakeup.contains(shims::Wakeup::NOTIFIED) {
                    self.bell = false;
                }
                Reply::Wakeup(wakeup)
            }
            (Op::Fetch { .. }, Input::Broken(mishap)) => Reply::Broken(mishap),
            (Op::Fetch { .. }, Input::Late(until)) => return Effect::Now(Op::Late { until }),
            (Op::Ring, _) => {
                self.bell = true;
                Reply::Done
            }
            (Op::Lock { lock, how }, _) => {
                if !self.free(thread, *lock, *how) {
                    self.locks[lock.0].asked.push(thread);
                    return Effect::Now(op.clone());
                }
                self.take(thread, *lock, *how, true);
                Reply::Done
            }
            (Op::TryLock { lock, how }, _) => {
                let free = self.free(thread, *lock, *how);
                if free {
                    self.take(thread, *lock, *how, false);
                }
                Reply::Is(free)
            }
            (Op::Wait { cond, lock, .. }, _) => {
                let notified = self.conds[cond.0].go_on(thread);
                if !self.free(thread, *lock, How::Alone) {
                    return Effect::Now(Op::Relock { lock: *lock, notified });
                }
                self.take(thread, *lock, How::Alone, true);
                Reply::Is(notified)
            }
            (Op::Relock { lock, notified }, _) => {
                self.take(thread, *lock, How::Alone, true);
                Reply::Is(*notified)
            }
            (Op::Notify { cond, all }, _) => {
                self.notify(*cond, *all);
                Reply::Done
            }
            (Op::Send { channel }, _) => {
                let channel = &mut self.channels[channel.0];
                channel.len += usize::from(channel.receiver);
                Reply::Is(channel.receiver)
            }
            (Op::Recv { channel, .. } | Op::TryRecv { channel }, _) => {
                let channel = &mut self.channels[channel.0];
                let some = channel.len > 0;
                channel.len -= usize::from(some);
                Reply::Is(some)
            }
            (
                Op::Start
                | Op::Yield
                | Op::Touch(_)
                | Op::Fetch { .. }
                | Op::Late { .. }
                | Op::UntilStopped
                | Op::Sleep { .. }
                | Op::Join { .. }
                | Op::JoinTeam { .. },
                _,
            ) => Reply::Done,
            (op, input) => unreachable!("{op:?} does not come to {input:?}"),
        };
        Effect::Reply(reply)
    }

    pub(crate) fn notify(&mut self, cond: CondId, all: bool) {
        self.conds[cond.0].notify(all);
    }

    /// For a thread that unwinds: do `op` if it need not wait for it.
    pub(super) fn do_at_once(&mut self, op: &Op) -> Option<Reply> {
        let me = self.current;
        match op {
            Op::Lock { lock, how } => {
                let lock_free = self.free(me, *lock, *how);
                lock_free.then(|| {
                    self.take(me, *lock, *how, false);
                    Reply::Done
                })
            }
            _ if self.over => Some(Reply::Over),
            Op::Touch(_) | Op::Ring | Op::Notify { .. } | Op::TryLock { .. } | Op::Yield => {
                match self.effect(me, op, Input::None) {
                    Effect::Reply(reply) => Some(reply),
                    Effect::Now(_) => None,
                }
            }
            _ => None,
        }
    }

    /// A thread unwinds and would have to wait: the run ends here.
    pub(super) fn stuck_unwinding(&mut self, op: &Op) {
        if !self.over {
            let thread = self.threads[self.current].name.clone();
            let why = format!("it panicked, and waits while it unwinds (to {})", op.verb());
            self.fail(Failure::Panicked { thread, why });
        }
    }

    /// The running thread has caught the unwinding of the run again. Does it do nothing else?
    pub(super) fn is_stubborn(&mut self) -> bool {
        self.caught += 1;
        let stubborn = self.caught > CAUGHT;
        if stubborn {
            let me = self.current;
            self.threads[me].ended = true;
            self.threads[me].abandoned = true;
        }
        stubborn
    }

    /// The running thread has ended.
    pub(super) fn ended_with(&mut self, panicked: Option<String>) {
        let me = self.current;
        self.threads[me].ended = true;
        self.threads[me].op = None;
        if let Some(why) = panicked {
            let thread = self.threads[me].name.clone();
            self.fail(Failure::Panicked { thread, why });
        }
    }
}

enum Effect {
    /// The thread goes on with this.
    Reply(Reply),
    /// It stands here now.
    Now(Op),
}

impl Cond {
    fn notified(&self, thread: usize) -> bool {
        let bit = 1 << thread;
        self.woken & bit != 0 || self.tokens.iter().any(|token| token & bit != 0)
    }

    fn notify(&mut self, all: bool) {
        let asleep = self.waiting & !self.woken;
        if all {
            self.woken |= asleep;
            self.tokens.clear();
        } else if self.tokens.len() < asleep.count_ones() as usize {
            // Whom it wakes is the operating system's choice, so the search's.
            self.tokens.push(asleep);
        }
    }

    /// A waiter goes on. Tells whether it was notified.
    fn go_on(&mut self, thread: usize) -> bool {
        let bit = 1u64 << thread;
        let notified = if self.woken & bit != 0 {
            true
        } else if let Some(at) = self.tokens.iter().position(|token| token & bit != 0) {
            // The oldest: whoever may take it may take the younger ones as well.
            self.tokens.remove(at);
            true
        } else {
            false
        };
        self.waiting &= !bit;
        self.woken &= !bit;
        for token in &mut self.tokens {
            *token &= !bit;
        }
        self.tokens.retain(|token| *token != 0);
        notified
    }
}
