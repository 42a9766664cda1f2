//! The same case on both kernels: what it starts with, where it can run, and the comparison
//! of what it has left behind. Owns the choice of the kernels and the pool of huge pages.

use std::sync::RwLock;

use shims::linux::hugepages::Reservation;
use shims::linux::{Capability, OpenFlags};
use shims::{Features, RegisterModes};

use super::arm::Arm;
use super::op::{Kind, Piece};
use super::puppet_arm::PuppetArm;
use super::run::{Run, running_profile};
use super::sim_arm::SimArm;

/// What a case starts with, and where it can run.
pub struct Case<'n> {
    name: &'n str,
    pages: u64,
    pieces: Vec<Piece>,
    features: Features,
    modes: RegisterModes,
    /// Why it runs on the simulated kernel alone, or on the running one alone.
    not_on_kernel: Option<&'n str>,
    not_on_sim: Option<&'n str>,
    /// There are no huge pages but those that a mapping has reserved, and none does.
    empty_pool: bool,
}

/// Held by each case while it needs huge pages, and alone by one that needs none to be left.
static POOL: RwLock<()> = RwLock::new(());

impl<'n> Case<'n> {
    /// `pages` pages of anonymous memory, watched for `MISSING` without any feature.
    pub fn new(name: &'n str, pages: u64) -> Case<'n> {
        Case {
            name,
            pages,
            pieces: vec![Piece::new(0, pages, Kind::Anon)],
            features: Features::empty(),
            modes: RegisterModes::MISSING,
            not_on_kernel: None,
            not_on_sim: None,
            empty_pool: false,
        }
    }

    /// Without any huge page: mappings of them reserve none.
    pub fn empty_pool(self) -> Case<'n> {
        Case { empty_pool: true, ..self }
    }

    /// What userfaultfd 0 asks for.
    pub fn features(self, features: Features) -> Case<'n> {
        Case { features, ..self }
    }

    /// What everything is watched for.
    pub fn modes(self, modes: RegisterModes) -> Case<'n> {
        Case { modes, ..self }
    }

    /// What is mapped at the start, in an arena that is as large as before.
    pub fn pieces(self, pieces: &[Piece]) -> Case<'n> {
        Case { pieces: pieces.to_vec(), ..self }
    }

    /// The whole arena of that kind of memory.
    pub fn kind(self, kind: Kind) -> Case<'n> {
        let whole = [Piece::new(0, self.pages, kind)];
        self.pieces(&whole)
    }

    /// The simulator cannot do it: say why.
    pub fn kernel_only(self, why: &'n str) -> Case<'n> {
        Case { not_on_sim: Some(why), ..self }
    }

    /// The running kernel cannot be brought to do it: say why.
    pub fn sim_only(self, why: &'n str) -> Case<'n> {
        Case { not_on_kernel: Some(why), ..self }
    }

    /// Run `body` on the kernels it can run on, and compare everything.
    #[expect(clippy::print_stderr, reason = "tests run cases, and theirs is caught so")]
    pub fn run(self, body: impl Fn(&mut Run)) {
        let profile = running_profile();
        let run_on = |arm: Box<dyn Arm>| {
            let mut run = Run::new(arm, profile.clone(), self.pages);
            run.begin(self.features, self.modes);
            body(&mut run);
            run.into_log()
        };
        let name = self.name;
        let simulated = match self.not_on_sim {
            Some(why) => {
                eprintln!("{name}: not on the simulator: {why}");
                None
            }
            None => Some(run_on(Box::new(SimArm::new(
                profile.clone(),
                self.pages,
                &self.pieces,
                !self.empty_pool,
            )))),
        };
        if let Some(why) = self.not_on_kernel {
            eprintln!("{name}: not on the running kernel: {why}");
            return;
        }
        if Capability::gate(name, OpenFlags::empty(), self.features).is_none() {
            return;
        }
        let huge: u64 =
            self.pieces.iter().filter(|p| p.kind.is_huge()).map(|p| p.pages / 512).sum();
        let _alone = self.empty_pool.then(|| POOL.write().unwrap_or_else(|e| e.into_inner()));
        let _others = (!self.empty_pool).then(|| POOL.read().unwrap_or_else(|e| e.into_inner()));
        if self.empty_pool && free_huge_pages() != 0 {
            eprintln!("SKIPPED {name}: this machine has huge pages to spare");
            return;
        }
        let pool = match huge {
            0 => None,
            _ if self.empty_pool => None,
            // Private copies and forks take pages of their own.
            huge => match Reservation::gate(name, 3 * huge) {
                Some(pool) => Some(pool),
                None => return,
            },
        };
        let arm = PuppetArm::new(self.pages, &self.pieces, pool, !self.empty_pool);
        let arm = arm.expect("a process");
        let real = run_on(Box::new(arm));
        if let Some(simulated) = simulated {
            compare(name, &simulated, &real);
        }
    }
}

fn free_huge_pages() -> u64 {
    let text = std::fs::read_to_string("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages");
    text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

/// Run `body` on both kernels and compare everything.
pub fn both(name: &str, pages: u64, features: Features, body: impl Fn(&mut Run)) {
    Case::new(name, pages).features(features).run(body);
}

fn compare(name: &str, simulated: &[String], real: &[String]) {
    if simulated == real {
        return;
    }
    let first = simulated.iter().zip(real).position(|(a, b)| a != b);
    let first = first.unwrap_or(simulated.len().min(real.len()));
    let step = simulated[..first].iter().rposition(|line| !line.starts_with("  ")).unwrap_or(0);
    panic!(
        "{name}: the kernels part after\n{}\nsimulated: {:?}\nrunning:   {:?}",
        simulated[step..first].join("\n"),
        simulated.get(first),
        real.get(first),
    );
}
