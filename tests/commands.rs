//! The commands that use the running kernel, as processes: what they leave behind when they are
//! killed, what they do for an ordinary user, what becomes of a process that does not come back.
//!
//! A target of its own, whose tests come one after the other: the pool of huge pages belongs to
//! the whole machine.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]
#![expect(
    clippy::disallowed_methods,
    reason = "what another process does is seen by looking again and again"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use shims::Features;
use shims::linux::hugepages::Reservation;
use shims::linux::{Capability, OpenFlags, unprivileged_sysctl};

static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `SKIPPED`, or a failure where the kernel is required.
fn skip(test: &str, why: &str) {
    let required = std::env::var_os("FAULTBED_REQUIRE_KERNEL").is_some_and(|v| v == "1");
    assert!(!required, "{test} may not be skipped: {why}");
    eprintln!("SKIPPED {test}: {why}");
}

/// A copy of the command in a place of its own, that everybody can read: the processes of a test
/// are those that run it.
struct Copy(PathBuf);

impl Copy {
    fn new(name: &str) -> Copy {
        let folder = format!("faultbed-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(folder);
        fs::create_dir_all(&folder).expect("a folder");
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).expect("permissions");
        fs::copy(env!("CARGO_BIN_EXE_faultbed"), folder.join("faultbed")).expect("a copy");
        Copy(folder)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.0.join("faultbed"));
        command.args(args).current_dir(&self.0).stdin(Stdio::null());
        command
    }

    fn start(&self, args: &[&str]) -> Child {
        let mut command = self.command(args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the command starts")
    }

    /// The processes that run it, zombies not counted.
    fn running(&self) -> Vec<i32> {
        let program = self.0.join("faultbed");
        let entries = fs::read_dir("/proc").expect("/proc").flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        pids.filter(|pid| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == program))
            .collect()
    }

    /// The children of `parent` among them.
    fn children(&self, parent: u32) -> Vec<i32> {
        let of = |pid: &i32| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let rest = stat.rsplit(") ").next().unwrap_or_default().to_owned();
            rest.split(' ').nth(1) == Some(parent.to_string().as_str())
        };
        self.running().into_iter().filter(of).collect()
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        for pid in self.running() {
            send(pid, Signal::KILL);
        }
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn send(pid: i32, signal: Signal) {
    // One that is gone already needs no signal.
    let _ = kill_process(Pid::from_raw(pid).expect("a process"), signal);
}

fn pool() -> u64 {
    let text = fs::read_to_string("/proc/sys/vm/nr_hugepages").expect("the pool");
    text.trim().parse().expect("a number")
}

fn is_ignored(signal: Signal) -> bool {
    let text = fs::read_to_string("/proc/self/status").expect("the own status");
    let mask = text.lines().find_map(|line| line.strip_prefix("SigIgn:")).expect("what is ignored");
    let mask = u64::from_str_radix(mask.trim(), 16).expect("a mask");
    mask >> (signal.as_raw() - 1) & 1 == 1
}

/// Look again and again until it holds.
#[track_caller]
fn wait(what: &str, seconds: u64, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(seconds), "in {seconds} s not: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

#[test]
fn whatever_ends_a_command_its_processes_end_and_huge_pages_go_back() {
    let test = "whatever_ends_a_command";
    let _alone = alone();
    if Capability::gate(test, OpenFlags::empty(), Features::empty()).is_none()
        || Reservation::gate(test, 16).is_none()
    {
        return;
    }
    let copy = Copy::new("ended");
    let commands: [&[&str]; 6] = [
        &["conform", "--ops", "100000000", "--huge", "19"],
        &["conform", "vma", "--ops", "100000000"],
        &["litmus", "huge_copy_against_fault", "--runs", "100000000"],
        &["litmus", "fork_event_against_copy", "--runs", "100000000"],
        &["run", "hugetlb_private", "--backend", "linux", "--runs", "100000000"],
        &["run", "fork_twice", "--backend", "linux", "--runs", "100000000"],
    ];
    for args in commands {
        let huge = args.iter().any(|arg| arg.contains("huge"));
        for signal in [Signal::TERM, Signal::INT, Signal::KILL] {
            if is_ignored(signal) {
                // Whoever is started in the background ignores SIGINT, and so do its children.
                continue;
            }
            let before = pool();
            let mut child = copy.start(args);
            let busy = || !copy.children(child.id()).is_empty() && (!huge || pool() > before);
            wait(&format!("{args:?} is at work"), 60, busy);
            send(child.id() as i32, signal);
            let what = format!("{args:?} ends on {signal:?}");
            wait(&what, 20, || child.try_wait().expect("a child").is_some());
            let what = format!("everybody is gone behind {args:?} and {signal:?}");
            wait(&what, 20, || copy.running().is_empty());
            let what = format!("the pool is as it was behind {args:?} and {signal:?}");
            wait(&what, 20, || pool() <= before);
        }
    }
}

/// A command whose puppets are stopped, which no release reaches, once they have worked for a
/// while.
fn with_a_stopped_puppet(copy: &Copy, args: &[&str]) -> Output {
    let child = copy.start(args);
    wait("there is a puppet", 30, || !copy.children(child.id()).is_empty());
    std::thread::sleep(Duration::from_millis(300));
    // One that is about to be ended is of no use; the next one will do.
    let stopped = |pid: &i32| {
        send(*pid, Signal::STOP);
        std::thread::sleep(Duration::from_millis(50));
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.contains(") T ")
    };
    wait("a puppet is stopped", 30, || copy.children(child.id()).iter().any(stopped));
    child.wait_with_output().expect("the command ends")
}

#[test]
fn a_puppet_that_does_not_come_back_is_reported_and_replaced() {
    let test = "a_puppet_that_does_not_come_back";
    let _alone = alone();
    if Capability::gate(test, OpenFlags::empty(), Features::empty()).is_none() {
        return;
    }
    let copy = Copy::new("stopped");
    let output = with_a_stopped_puppet(&copy, &["litmus", "message_then_copy", "--runs", "20000"]);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    // One round is lost, the others are done by another process.
    assert!(text.contains("seen in 19999 runs"), "{text}");
    let stuck = text.lines().find(|line| line.trim_start().starts_with("round "));
    let stuck = stuck.unwrap_or_else(|| panic!("nobody is reported stuck: {text}"));
    assert!(stuck.contains(" T in ") && stuck.contains("lines done"), "{stuck}");

    let args = ["run", "serial_missing", "--backend", "linux", "--runs", "1000000"];
    let output = with_a_stopped_puppet(&copy, &args);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    // One that was stopped before it had begun has done no line.
    let at_work = text.contains("HANG: guest, line ") && text.contains(" T in ");
    assert!(at_work || text.contains("a process does not come back"), "{text}");
    assert_eq!(copy.running(), Vec::<i32>::new(), "nobody is left behind");
}

/// Whom the commands are for as well.
fn as_ordinary_user(copy: &Copy, args: &[&str]) -> (Option<i32>, String) {
    const NOBODY: u32 = 65_534;
    let mut command = copy.command(args);
    if rustix::process::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    let output = command.output().expect("the command runs");
    (output.status.code(), said(&output))
}

#[test]
fn an_ordinary_user_is_told_what_he_cannot_test_and_the_rest_runs() {
    let test = "an_ordinary_user";
    let _alone = alone();
    if Capability::gate(test, OpenFlags::USER_MODE_ONLY, Features::empty()).is_none() {
        return;
    }
    if unprivileged_sysctl() != Some(false)
        || fs::File::open("/dev/userfaultfd").is_ok_and(|_| !rustix::process::geteuid().is_root())
    {
        return skip(test, "everybody is privileged here");
    }
    let copy = Copy::new("ordinary");
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/examples");
    for kind in ["anon", "shmem", "shmem_private"] {
        let name = format!("{kind}.fbs");
        fs::copy(examples.join(&name), copy.0.join(&name)).expect("an example");
        let (code, text) = as_ordinary_user(&copy, &["check", &name]);
        assert_eq!(code, Some(0), "{text}");
        let (code, text) = as_ordinary_user(&copy, &["run", &name]);
        assert!(code == Some(0) && text.contains("the kernels agree"), "{name}: {text}");
    }
    let run = |scenario: &str| as_ordinary_user(&copy, &["run", scenario, "--runs", "10"]);
    for scenario in ["lost_install", "wp_baseline", "remap_swap", "minor_beside", "shmem_removed"] {
        let (code, text) = run(scenario);
        assert!(code == Some(0) && text.contains("UFFD_USER_MODE_ONLY"), "{scenario}: {text}");
    }
    for (scenario, why) in [
        ("missing_populate", "fault in kernel mode"),
        ("fork_twice", "EVENT_FORK needs CAP_SYS_PTRACE"),
    ] {
        let (code, text) = run(scenario);
        assert!(code == Some(4) && text.contains(why), "{scenario}: {text}");
    }
    let (code, text) = as_ordinary_user(&copy, &["conform", "--ops", "2000"]);
    let untested = "not tested without privileges: FORK events, faults from kernel mode";
    assert!(code == Some(0) && text.contains(untested), "{text}");
    let (code, text) = as_ordinary_user(&copy, &["conform", "--ops", "100", "--huge", "100000"]);
    assert!(code == Some(4) && text.contains("vm.nr_hugepages=100000"), "{text}");
    for theme in ["plain", "uffd", "huge", "limits"] {
        let args = ["conform", "vma", "--ops", "6000", "--theme", theme];
        let (code, text) = as_ordinary_user(&copy, &args);
        let untested = "not tested without privileges: a userfaultfd that hears of forks";
        assert!(code == Some(0) && text.contains(untested), "{theme}: {text}");
    }
    let (code, text) = as_ordinary_user(&copy, &["litmus", "--runs", "20"]);
    assert!(code == Some(0) && text.contains("its faults of kernel mode are for"), "{text}");
    assert!(text.contains("EVENT_FORK needs CAP_SYS_PTRACE"), "{text}");
}
