//! `UFFDIO_API`, `register-ioctls` and `zeropage`.

use shims::{Errno, Features, Outcome, RegisterModes};
use sim::Content;

use super::{kinds, units};
use faultbed::judge::{Back, Kind, Op, PAGE};
use faultbed::judge::{Case, Run};

#[test]
fn uffdio_api_syscall() {
    uffdio_api("UFFDIO_API (syscall)", Run::open_raw);
}

#[test]
fn uffdio_api_dev() {
    if !std::path::Path::new("/dev/userfaultfd").exists() {
        eprintln!("SKIPPED UFFDIO_API (dev): there is no /dev/userfaultfd");
        return;
    }
    uffdio_api("UFFDIO_API (dev)", Run::open_by_device);
}

fn uffdio_api(name: &str, open: impl Fn(&mut Run, u64) -> Result<usize, Errno>) {
    Case::new(name, 1).modes(RegisterModes::empty()).run(|run| {
        let uffd = open(run, 0o4000).unwrap();
        assert_eq!(run.api(uffd, Features::from_bits_retain(1 << 63)), Err(Errno::EINVAL));
        assert!(run.api(uffd, Features::empty()).is_ok());
        assert_eq!(run.api(uffd, Features::empty()), Err(Errno::EINVAL));
    });
}

fn register_ioctls(name: &str, kind: Kind) {
    let pages = units(kind) * kind.granule();
    Case::new(name, pages).kind(kind).modes(RegisterModes::empty()).run(|run| {
        let whole = run.span(0, pages);
        for bits in 0..8 {
            let modes = RegisterModes::from_bits_retain(bits);
            let granted = run.register(0, whole, modes);
            let minor = modes.contains(RegisterModes::MINOR);
            if modes.is_empty() || minor && kind == Kind::Anon {
                assert_eq!(granted, Err(Errno::EINVAL));
                continue;
            }
            let granted = granted.unwrap().bits();
            // WAKE, COPY, WRITEPROTECT, CONTINUE.
            let mut expected = 1 << 2;
            if modes.contains(RegisterModes::MISSING) {
                expected |= 1 << 3;
            }
            if modes.contains(RegisterModes::WP) {
                expected |= 1 << 6;
            }
            if minor {
                expected |= 1 << 7;
            }
            assert_eq!(granted & expected, expected, "{modes:?}");
            run.unregister(0, whole).unwrap();
        }
    });
}
kinds!(register_ioctls: all);

fn zeropage(name: &str, kind: Kind) {
    let unit = kind.granule();
    let pages = units(kind) * unit;
    Case::new(name, pages).kind(kind).modes(RegisterModes::empty()).run(|run| {
        let whole = run.span(0, pages);
        let granted = run.register(0, whole, RegisterModes::MISSING).unwrap();
        let has = granted.bits() & 1 << 4 != 0;
        assert_eq!(has, !kind.is_huge());
        let outcome = run.zero(0, unit);
        if has {
            assert_eq!(outcome, Outcome::done(unit * PAGE));
            let again = run.zero(0, unit);
            assert_eq!(again, Outcome::mirrored(Errno::EEXIST));
            let (thread, _) = run.spawn(Op::Load(0));
            run.returned(thread, Back::Loaded(Content::Zero));
        } else {
            assert_eq!(outcome, Outcome::mirrored(Errno::EINVAL));
        }
    });
}
kinds!(zeropage: all);
