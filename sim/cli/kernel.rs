//! `--profile` and `--bug`: which kernel a scenario runs on, whatever it says itself. Owns the
//! two options; what they mean is [`sim::Profile`]'s business.

use clap::Args;
use sim::Profile;
use sim::world::Setup;

use crate::exit::Failed;
use crate::judge::profile_of;
use crate::judge::program::Program;

/// Which kernel.
#[derive(Args, Clone, Debug, Default)]
pub struct KernelArgs {
    /// Run on this kernel, whatever the scenario says: 5.7, 5.13, 5.15, 6.1, 6.6, 6.12 or 6.18.
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// Give the kernel a fault (Z5), or take one away (no-Z15); docs/kernel/bugs.md has them
    /// all. Can be repeated.
    #[arg(long = "bug", value_name = "ID")]
    bugs: Vec<String>,
}

impl KernelArgs {
    /// Put the kernel into `setup`.
    pub fn apply(&self, setup: &mut Setup) -> Result<(), Failed> {
        setup.profile = self.instead_of(&setup.profile)?;
        match setup.refused_by_kernel() {
            Some(why) => Err(Failed::usage(format!(
                "`{}` does not run on {}: {why}; name scenarios that do",
                setup.name,
                setup.profile.name()
            ))),
            None => Ok(()),
        }
    }

    /// Put the kernel into `program`, if one was asked for.
    pub fn apply_to(&self, program: &mut Program) -> Result<(), Failed> {
        if self.profile.is_some() || !self.bugs.is_empty() {
            program.profile = Some(self.instead_of(&profile_of(program))?);
        }
        Ok(())
    }

    /// The kernel that was asked for, where there would be `profile`.
    fn instead_of(&self, profile: &Profile) -> Result<Profile, Failed> {
        let mut profile = match &self.profile {
            None => profile.clone(),
            Some(name) => Profile::by_name(name).ok_or_else(|| {
                let known = Profile::NAMES.join(", ");
                Failed::usage(format!("--profile: expected one of {known}, found `{name}`"))
            })?,
        };
        for word in &self.bugs {
            let switched = profile.switch_bug(word);
            profile = switched.map_err(|error| Failed::usage(format!("--bug: {error}")))?;
        }
        Ok(profile)
    }
}
