//! Whether a comparison on this machine means anything. Owns the conditions.

/// `CAP_IPC_LOCK`: the lock limit does not apply, as the model has it.
const IPC_LOCK: u32 = 14;
/// `CAP_SYS_PTRACE`: userfaultfds that may be asked about faults of the kernel.
const SYS_PTRACE: u32 = 19;

/// Why nothing can be compared here: another kernel than the one whose rules are compared,
/// or a process that may not lock memory or make userfaultfds. `None` if all is well.
pub fn unsupported() -> Option<String> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let release = read("/proc/sys/kernel/osrelease");
    if !release.starts_with("6.18.") {
        return Some(format!("the rules are those of 6.18, this kernel is {}", release.trim()));
    }
    let status = read("/proc/self/status");
    let held = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let held = held.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
    for (bit, name) in [(IPC_LOCK, "CAP_IPC_LOCK"), (SYS_PTRACE, "CAP_SYS_PTRACE")] {
        if held >> bit & 1 == 0 {
            return Some(format!("{name} is missing"));
        }
    }
    None
}
