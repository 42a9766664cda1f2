//! `--profile` and `--bug`: which kernel a scenario runs on, whatever it says itself. Owns the
//! two options; what they mean is [`sim::Profile`]'s business.

use clap::Args;
use sim::Profile;
use sim::world::Setup;

use crate::exit::Failed;

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
        if let Some(name) = &self.profile {
            setup.profile = Profile::by_name(name).ok_or_else(|| {
                let known = Profile::NAMES.join(", ");
                Failed::usage(format!("--profile: expected one of {known}, found `{name}`"))
            })?;
        }
        for word in &self.bugs {
            setup.profile = setup
                .profile
                .clone()
                .switch_bug(word)
                .map_err(|error| Failed::usage(format!("--bug: {error}")))?;
        }
        Ok(())
    }
}
