//! The VMA layer against the running kernel. Where the kernel is not the one the rules of
//! `Rules::LINUX_6_18` describe, or userfaultfd is not to be had, the test says so and
//! compares nothing.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

use faultbed::conform_vma::ConformVma;

#[test]
fn two_hundred_thousand_random_calls_agree_with_the_kernel() {
    let ops = std::env::var("FAULTBED_VMA_OPS").ok().and_then(|text| text.parse().ok());
    let seed = std::env::var("FAULTBED_VMA_SEED").ok().and_then(|text| text.parse().ok());
    let run = ConformVma { ops: ops.unwrap_or(200_000), seed: seed.unwrap_or(1), length: 48 };
    let report = run.run().expect("the probe runs");
    println!("{report}");
    assert!(report.disagreement.is_none(), "{report}");
}
