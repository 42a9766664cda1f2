//! The first few claims about private anonymous memory.

use shims::{Addr, Len, RegisterModes, Span};

use super::{AddressSpace, CtxId, Mmap, Prot, Rules};

#[test]
fn map_protect_register_and_unmap_leave_the_layout_of_linux() {
    let page = |n: u64| 0x1000_0000 + n * 0x1000;
    let mut s = AddressSpace::new(Rules::LINUX_6_18);
    let see = |s: &AddressSpace| {
        s.validate().unwrap();
        s.layout(Addr::new(page(0))).to_string()
    };
    s.mmap(&Mmap::fixed(page(0), 0x2000, Prot::RW)).unwrap();
    s.mmap(&Mmap::fixed(page(4), 0x2000, Prot::RW)).unwrap();
    s.note_anon_fault(Addr::new(page(4)));
    s.mmap(&Mmap::fixed(page(2), 0x2000, Prot::RW)).unwrap();
    assert_eq!(see(&s), "[0x0,0x6)rw:X1");
    s.mprotect(page(2), 0x2000, Prot::READ).unwrap();
    assert_eq!(see(&s), "[0x0,0x2)rw:X1 [0x2,0x4)r:ac,X1 [0x4,0x6)rw:X1");
    s.mprotect(page(2), 0x2000, Prot::RW).unwrap();
    let range = Span::new(Addr::new(page(1)), Len::new(0x2000));
    s.uffd_register(range, CtxId(7), RegisterModes::MISSING, false).unwrap();
    assert_eq!(see(&s), "[0x0,0x1)rw:X1 [0x1,0x3)rw:um@7,X1 [0x3,0x6)rw:X1");
    let gone = s.munmap(page(2), 0x2000).unwrap();
    assert_eq!(gone.ctxs().collect::<Vec<_>>(), [CtxId(7)]);
    assert_eq!(see(&s), "[0x0,0x1)rw:X1 [0x1,0x2)rw:um@7,X1 [0x4,0x6)rw:X1");
    assert_eq!(s.uffd_release(CtxId(7)).len(), 1);
    assert_eq!(see(&s), "[0x0,0x2)rw:X1 [0x4,0x6)rw:X1");
}
