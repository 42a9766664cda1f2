//! A sequence on the simulated kernel, on the running one, or on both. Owns the choice, what is
//! needed to run at all, and where two transcripts part.

use core::fmt;

use clap::ValueEnum;
use sim::Profile;

use super::program::Program;
use super::run::{Run, running_profile};
use super::sim_arm::SimArm;
use super::steps::{Shown, walk};

/// Which kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Backend {
    /// The simulated one.
    Sim,
    /// The running one.
    Linux,
    /// Both, compared.
    Both,
}

/// Why a program does not run on the running kernel here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unable(pub String);

impl fmt::Display for Unable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<shims::Errno> for Unable {
    fn from(errno: shims::Errno) -> Unable {
        Unable(errno.to_string())
    }
}

/// The kernel that a program is simulated on.
pub fn profile_of(program: &Program) -> Profile {
    program.profile.clone().unwrap_or_else(running_profile)
}

/// The sequence on the simulated kernel.
pub fn on_sim(program: &Program) -> Shown {
    let profile = profile_of(program);
    let arm = SimArm::new(profile.clone(), program.pages(), &program.pieces(), true);
    walk(Run::new(Box::new(arm), profile, program.pages()), program)
}

/// How many huge pages the memory of a program needs, with those that private copies and
/// forks take.
pub fn huge_pages(program: &Program) -> u64 {
    let huge = program.memory.iter().filter(|watched| watched.piece.kind.is_huge());
    3 * huge.map(|watched| watched.piece.pages / 512).sum::<u64>()
}

/// The sequence on the running kernel.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub fn on_linux(program: &Program) -> Result<Shown, Unable> {
    use super::puppet_arm::PuppetArm;

    let pool = prepare(program)?;
    let arm = PuppetArm::new(program.pages(), &program.pieces(), pool, true);
    let arm = arm.map_err(|errno| Unable(format!("no process for the tasks: {errno}")))?;
    Ok(walk(Run::new(Box::new(arm), running_profile(), program.pages()), program))
}

/// The same where there is no kernel to run on.
#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
pub fn on_linux(_: &Program) -> Result<Shown, Unable> {
    Err(Unable("this is no Linux on x86-64".to_owned()))
}

/// The program as this user can run it: without the right to handle faults of the kernel, with a
/// userfaultfd for user mode only, if it has none of them.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub fn for_this_user(program: &Program) -> Result<Program, Unable> {
    use shims::linux::{Capability, OpenFlags};

    let why = match Capability::probe(OpenFlags::empty()) {
        _ if program.user_mode_only => return Ok(program.clone()),
        Ok(_) => return Ok(program.clone()),
        Err(why) => why,
    };
    if Capability::probe(OpenFlags::USER_MODE_ONLY).is_err() {
        return Err(Unable(why.to_string()));
    }
    if program.faults_in_the_kernel() {
        let message = "its faults of kernel mode are for privileged users (or with \
                       vm.unprivileged_userfaultfd=1)";
        return Err(Unable(message.to_owned()));
    }
    Ok(Program { user_mode_only: true, ..program.clone() })
}

/// The same where there is no kernel to run on.
#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
pub fn for_this_user(program: &Program) -> Result<Program, Unable> {
    Ok(program.clone())
}

/// Is everything there that `program` needs of the running kernel? The huge pages are taken.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub(crate) fn prepare(
    program: &Program,
) -> Result<Option<shims::linux::hugepages::Reservation>, Unable> {
    use shims::linux::hugepages::Reservation;
    use shims::linux::{OpenFlags, UserFault};

    let flags = if program.user_mode_only { OpenFlags::USER_MODE_ONLY } else { OpenFlags::empty() };
    UserFault::connect(flags, program.features).map_err(|why| Unable(why.to_string()))?;
    match huge_pages(program) {
        0 => Ok(None),
        pages => Reservation::ensure(pages).map_err(|shortage| Unable(shortage.to_string())),
    }
}

/// Where two transcripts part: what came before, and the two lines.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Parting {
    /// The step and what both have seen after it.
    pub context: Vec<String>,
    /// What the simulator has seen; nothing if it has seen less.
    pub sim: Option<String>,
    /// What the running kernel has shown.
    pub linux: Option<String>,
}

/// The first difference.
pub fn part(sim: &[String], linux: &[String]) -> Option<Parting> {
    let length = sim.len().max(linux.len());
    let first = (0..length).find(|&line| sim.get(line) != linux.get(line))?;
    let step = sim[..first.min(sim.len())].iter().rposition(|line| !line.starts_with("  "));
    let context = sim[step.unwrap_or(0)..first.min(sim.len())].to_vec();
    Some(Parting { context, sim: sim.get(first).cloned(), linux: linux.get(first).cloned() })
}
