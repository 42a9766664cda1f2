//! The steps of a case. Owns the words; each stands for one system call, except `new` and
//! `modify`, which reach the merge decision directly as a driver of the real one would.

use shims::{Addr, Errno, Len, RegisterModes, Span};

use super::super::layout_parse::{parse_range, parse_vma};
use super::super::merge;
use super::super::{
    AddressSpace, Advice, CtxId, FileId, FileKind, LockAll, MapFile, MapFlags, Mmap, Mremap,
    NameId, PolicyId, Prot, RemapFlags, Rules, Vma, VmaFlags,
};

/// Page 0 of every case.
pub(super) const BASE: u64 = 0x1000_0000;

/// Where a page of a case starts.
pub(super) fn addr(page: u64) -> u64 {
    BASE + (page << 12)
}

/// What came of a case up to the first step that differs.
pub(super) fn try_case(rules: Rules, text: &str) -> Result<(), String> {
    let mut space = AddressSpace::new(rules);
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let before = space.layout(Addr::new(BASE)).to_string();
        let (step, after) = match line.split_once("=>") {
            Some((step, after)) => (step.trim(), Some(after.trim())),
            None => (line, None),
        };
        let (step, errno) = match step.split_once(" = ") {
            Some((step, errno)) => {
                (step.trim(), Some(Errno::from_name(errno.trim()).expect("a known errno")))
            }
            None => (step, None),
        };
        let result = perform(&mut space, step);
        let layout = space.layout(Addr::new(BASE)).to_string();
        if result.err() != errno {
            return Err(format!("{line}\n before {before}\n result {result:?}\n now {layout}"));
        }
        if let Some(after) = after.filter(|after| *after != layout) {
            return Err(format!("{line}\n before {before}\n expected {after}\n now {layout}"));
        }
        if let Err(broken) = space.validate() {
            return Err(format!("{line}\n now {layout}\n broken: {broken}"));
        }
        let again = AddressSpace::from_layout(space.rules().clone(), Addr::new(BASE), &layout);
        let again = again.expect("a printed layout is a layout");
        assert_eq!(again.layout(Addr::new(BASE)).to_string(), layout);
        assert!(again.iter().eq(space.iter()), "{layout} does not say everything");
    }
    Ok(())
}

/// Check a case.
pub(super) fn case(rules: Rules, text: &str) {
    if let Err(report) = try_case(rules, text) {
        panic!("{report}");
    }
}

fn prot(word: &str) -> Prot {
    let bit = |letter, bit| if word.contains(letter) { bit } else { 0 };
    Prot::from_bits(bit('r', 1) | bit('w', 2) | bit('x', 4)).expect("three bits")
}

fn modes(word: &str) -> RegisterModes {
    word.split('+')
        .fold(VmaFlags::empty(), |all, token| {
            all | VmaFlags::from_token(token).expect("um, uw or ui")
        })
        .uffd_modes()
}

fn perform(space: &mut AddressSpace, step: &str) -> Result<u64, Errno> {
    let words: Vec<&str> = step.split_ascii_whitespace().collect();
    let int = |i: usize| words[i].parse::<u64>().expect("a number");
    let range = |i: usize| {
        let (start, end, _) = parse_range(words[i]).expect("a range");
        (addr(start), (end - start) << 12)
    };
    let span = |i: usize| {
        let (start, len) = range(i);
        Span::new(Addr::new(start), Len::new(len))
    };
    let ctx = |i: usize| CtxId(words[i].parse().expect("a context"));
    match words[0] {
        "given" => {
            let layout = step.strip_prefix("given").expect("it was just matched");
            let (rules, limits) = (space.rules().clone(), space.limits().clone());
            *space = AddressSpace::from_layout(rules, Addr::new(BASE), layout).expect("a layout");
            *space.limits_mut() = limits;
            Ok(0)
        }
        "map" => map(space, range(1), &words[2..]),
        "munmap" => {
            space.munmap(range(1).0, range(1).1).map(|_| 0).map_err(|refused| refused.errno)
        }
        "mprotect" => space.mprotect(range(1).0, range(1).1, prot(words[2])).map(|()| 0),
        "madvise" => space.madvise(range(1).0, range(1).1, advice(words[2])).map(|()| 0),
        "write" => {
            space.expand_stack(Addr::new(addr(int(1))))?;
            space.note_anon_fault(Addr::new(addr(int(1))));
            Ok(0)
        }
        "mlock" => space.mlock(range(1).0, range(1).1, words.contains(&"onfault")).map(|()| 0),
        "munlock" => space.munlock(range(1).0, range(1).1).map(|()| 0),
        "mlockall" => space.mlockall(LockAll::CURRENT | LockAll::FUTURE).map(|()| 0),
        "munlockall" => {
            space.munlockall();
            Ok(0)
        }
        "mseal" => space.mseal(range(1).0, range(1).1).map(|()| 0),
        "mbind" => space.mbind(range(1).0, range(1).1, PolicyId(int(2) as u16)).map(|()| 0),
        "name" => space.set_name(range(1).0, range(1).1, NameId(int(2) as u16)).map(|()| 0),
        "register" => space.uffd_register(span(2), ctx(1), modes(words[3]), false).map(|()| 0),
        "unregister" => space.uffd_unregister(span(2), ctx(1)).map(|parts| parts.len() as u64),
        "close" => Ok(space.uffd_release(ctx(1)).len() as u64),
        "mremap" => remap(space, &words),
        "fork" => {
            *space = space.fork(|ctx| words.contains(&"events").then_some(CtxId(ctx.0 + 10)));
            Ok(0)
        }
        "heap" => {
            space.set_heap(Addr::new(addr(int(1))));
            Ok(0)
        }
        "brk" => {
            let to = addr(int(1));
            if space.brk(to).0.raw() == to { Ok(0) } else { Err(Errno::ENOMEM) }
        }
        "max" => {
            space.limits_mut().max_map_count = int(1) as usize;
            Ok(0)
        }
        "unprivileged" => {
            space.limits_mut().may_lock_any = false;
            space.limits_mut().rlimit_memlock = int(1) << 12;
            Ok(0)
        }
        "datalimit" => {
            space.limits_mut().rlimit_data = int(1) << 12;
            Ok(0)
        }
        "new" => {
            let vma = parse_vma(words[1], BASE >> 12).expect("a VMA");
            let cursor = space.tree.seek(vma.start);
            let left_only = words.contains(&"left-only");
            let next = cursor.get().filter(|_| !left_only);
            let decided = merge::new_range(&space.rules, cursor.prev(), &vma, next);
            space.place_new(&vma, decided);
            Ok(0)
        }
        "modify" => {
            let wanted: Vma = parse_vma(words[1], BASE >> 12).expect("a VMA");
            let cursor = space.tree.seek(wanted.start);
            let plan =
                space.plan(&cursor, wanted.start, wanted.end, |range| range.flags = wanted.flags);
            space.perform(&plan)
        }
        other => panic!("no step is called `{other}`"),
    }
}

fn map(space: &mut AddressSpace, at: (u64, u64), words: &[&str]) -> Result<u64, Errno> {
    let mut request = Mmap::fixed(at.0, at.1, prot(words[0]));
    for word in &words[1..] {
        request = match *word {
            "shared" => request.shared(),
            "noreserve" => request.with(MapFlags::NORESERVE),
            "stack" => request.with(MapFlags::GROWSDOWN),
            "locked" => request.with(MapFlags::LOCKED),
            "populate" => request.with(MapFlags::POPULATE),
            "noreplace" => request.with(MapFlags::FIXED_NOREPLACE),
            "readonly" => Mmap { file: request.file.map(MapFile::read_only), ..request },
            file => {
                let (id, page) = file.split_once('+').expect("memfd+page, like 7+2");
                let id = FileId(id.parse().expect("a file"));
                let offset = page.parse::<u64>().expect("a page") << 12;
                Mmap { file: Some(MapFile::rw(id, FileKind::Shmem)), offset, ..request }
            }
        };
    }
    space.mmap(&request).map(|mapped| mapped.addr.raw()).map_err(|refused| refused.errno)
}

/// `mremap [0,4) 6` resizes to 6 pages where it is, `mremap [0,4) 6 move` may move it, and
/// `mremap [0,4) [8,12)` goes there, with `keep` as `MREMAP_DONTUNMAP`.
fn remap(space: &mut AddressSpace, words: &[&str]) -> Result<u64, Errno> {
    let (start, end, _) = parse_range(words[1]).expect("a range");
    let pages = |word: &str| word.parse::<u64>().expect("pages");
    let (mut flags, new, new_len) = match parse_range(words[2]) {
        Ok((from, to, _)) => (RemapFlags::FIXED, addr(from), (to - from) << 12),
        Err(_) => (RemapFlags::empty(), 0, pages(words[2]) << 12),
    };
    flags.set(RemapFlags::DONTUNMAP, words.contains(&"keep"));
    flags.set(RemapFlags::MAYMOVE, flags.contains(RemapFlags::FIXED) || words.contains(&"move"));
    let old_len = if words.contains(&"none") { 0 } else { (end - start) << 12 };
    let request = Mremap { old: addr(start), old_len, new_len, flags, new };
    space.mremap(&request, |_| words.contains(&"events")).result.map(Addr::raw)
}

fn advice(word: &str) -> Advice {
    match word {
        "random" => Advice::Random,
        "dontfork" => Advice::DontFork,
        "dofork" => Advice::DoFork,
        "wipeonfork" => Advice::WipeOnFork,
        "keeponfork" => Advice::KeepOnFork,
        "dontdump" => Advice::DontDump,
        "mergeable" => Advice::Mergeable,
        "hugepage" => Advice::HugePage,
        "nohugepage" => Advice::NoHugePage,
        "guard" => Advice::GuardInstall,
        other => panic!("no advice is called `{other}`"),
    }
}
