//! Whether a comparison on this machine means anything, and what this user can compare. Owns the
//! conditions.

/// `CAP_IPC_LOCK`: the lock limit does not apply, as the model has it.
const IPC_LOCK: u32 = 14;
/// `CAP_SYS_PTRACE`: userfaultfds that may be asked about faults of the kernel.
const SYS_PTRACE: u32 = 19;

/// What the processes of a comparison may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Rights {
    /// Does the limit of locked memory not apply?
    pub(super) lock_any: bool,
    /// That limit, in bytes.
    pub(super) memlock: u64,
    /// Is there a userfaultfd that hears of forks?
    pub(super) follow: bool,
}

impl Rights {
    /// Those of this process.
    pub(super) fn own() -> Rights {
        let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
        let line = limits.lines().find_map(|line| line.strip_prefix("Max locked memory"));
        let soft = line.and_then(|line| line.split_ascii_whitespace().next());
        // `unlimited` is no number.
        let memlock = soft.map_or(0, |soft| soft.parse().unwrap_or(u64::MAX));
        Rights { lock_any: holds(IPC_LOCK), memlock, follow: holds(SYS_PTRACE) }
    }

    /// What is not compared, for a report; nothing if everything is.
    pub(super) fn missing(self) -> Option<&'static str> {
        (!self.follow).then_some("a userfaultfd that hears of forks (needs CAP_SYS_PTRACE)")
    }
}

fn holds(capability: u32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let held = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let held = held.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
    held >> capability & 1 == 1
}

/// Why nothing can be compared here: another kernel than the one whose rules are compared,
/// or a process that may not lock memory or make userfaultfds. `None` if all is well.
pub fn unsupported() -> Option<String> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let release = read("/proc/sys/kernel/osrelease");
    if !release.starts_with("6.18.") {
        return Some(format!("the rules are those of 6.18, this kernel is {}", release.trim()));
    }
    for (bit, name) in [(IPC_LOCK, "CAP_IPC_LOCK"), (SYS_PTRACE, "CAP_SYS_PTRACE")] {
        if !holds(bit) {
            return Some(format!("{name} is missing"));
        }
    }
    None
}
