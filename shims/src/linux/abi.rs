//! The binary interface, pinned at compile time. Owns the opcodes and every assertion
//! about sizes, offsets and bit values; a target on which one of them differs does not
//! build.

use core::mem::{offset_of, size_of};

use linux_raw_sys::general as sys;
use linux_raw_sys::ioctl as numbers;
use rustix::ioctl::{Opcode, opcode};

use crate::{
    ContinueMode, CopyMode, FaultFlags, Features, MoveMode, PoisonMode, RegisterModes,
    WriteProtectMode, ZeropageMode,
};

pub(super) use sys::{
    uffdio_api, uffdio_continue, uffdio_copy, uffdio_move, uffdio_poison, uffdio_range,
    uffdio_register, uffdio_writeprotect, uffdio_zeropage,
};

/// The ioctl group of a userfaultfd and of its device.
const GROUP: u8 = 0xaa;

/// The value of `uffdio_api.api`.
pub(super) const API_VERSION: u64 = 0xaa;

pub(super) const API: Opcode = opcode::read_write::<uffdio_api>(GROUP, 0x3f);
pub(super) const REGISTER: Opcode = opcode::read_write::<uffdio_register>(GROUP, 0x00);
pub(super) const UNREGISTER: Opcode = opcode::read::<uffdio_range>(GROUP, 0x01);
pub(super) const WAKE: Opcode = opcode::read::<uffdio_range>(GROUP, 0x02);
pub(super) const COPY: Opcode = opcode::read_write::<uffdio_copy>(GROUP, 0x03);
pub(super) const ZEROPAGE: Opcode = opcode::read_write::<uffdio_zeropage>(GROUP, 0x04);
pub(super) const MOVE: Opcode = opcode::read_write::<uffdio_move>(GROUP, 0x05);
pub(super) const WRITEPROTECT: Opcode = opcode::read_write::<uffdio_writeprotect>(GROUP, 0x06);
pub(super) const CONTINUE: Opcode = opcode::read_write::<uffdio_continue>(GROUP, 0x07);
pub(super) const POISON: Opcode = opcode::read_write::<uffdio_poison>(GROUP, 0x08);

/// `USERFAULTFD_IOC_NEW` of `/dev/userfaultfd`; its argument is a number (rule a2).
pub(super) const DEVICE_NEW: Opcode = opcode::none(GROUP, 0x00);

/// Bytes of one message.
pub(super) const MSG_LEN: usize = 32;
/// Where the argument of a message begins.
pub(super) const MSG_ARG: usize = 8;

/// First byte of a message.
pub(super) mod event {
    pub(in super::super) const PAGEFAULT: u8 = 0x12;
    pub(in super::super) const FORK: u8 = 0x13;
    pub(in super::super) const REMAP: u8 = 0x14;
    pub(in super::super) const REMOVE: u8 = 0x15;
    pub(in super::super) const UNMAP: u8 = 0x16;
}

/// `UFFD_USER_MODE_ONLY` of `userfaultfd(2)`.
pub(super) const USER_MODE_ONLY: u32 = 1;

/// The kernel adds this bit to the features in fdinfo once `UFFDIO_API` has succeeded
/// (rule a9).
pub(super) const FDINFO_INITIALISED: u64 = 1 << 31;

// Sizes.
const _: () = {
    assert!(size_of::<sys::uffd_msg>() == MSG_LEN);
    assert!(size_of::<uffdio_api>() == 24);
    assert!(size_of::<uffdio_range>() == 16);
    assert!(size_of::<uffdio_register>() == 32);
    assert!(size_of::<uffdio_copy>() == 40);
    assert!(size_of::<uffdio_zeropage>() == 32);
    assert!(size_of::<uffdio_move>() == 40);
    assert!(size_of::<uffdio_writeprotect>() == 24);
    assert!(size_of::<uffdio_continue>() == 32);
    assert!(size_of::<uffdio_poison>() == 32);
};

// Offsets of arguments.
const _: () = {
    assert!(offset_of!(uffdio_api, api) == 0);
    assert!(offset_of!(uffdio_api, features) == 8);
    assert!(offset_of!(uffdio_api, ioctls) == 16);
    assert!(offset_of!(uffdio_range, start) == 0);
    assert!(offset_of!(uffdio_range, len) == 8);
    assert!(offset_of!(uffdio_register, range) == 0);
    assert!(offset_of!(uffdio_register, mode) == 16);
    assert!(offset_of!(uffdio_register, ioctls) == 24);
    assert!(offset_of!(uffdio_copy, dst) == 0);
    assert!(offset_of!(uffdio_copy, src) == 8);
    assert!(offset_of!(uffdio_copy, len) == 16);
    assert!(offset_of!(uffdio_copy, mode) == 24);
    assert!(offset_of!(uffdio_copy, copy) == 32);
    assert!(offset_of!(uffdio_zeropage, range) == 0);
    assert!(offset_of!(uffdio_zeropage, mode) == 16);
    assert!(offset_of!(uffdio_zeropage, zeropage) == 24);
    assert!(offset_of!(uffdio_move, dst) == 0);
    assert!(offset_of!(uffdio_move, src) == 8);
    assert!(offset_of!(uffdio_move, len) == 16);
    assert!(offset_of!(uffdio_move, mode) == 24);
    assert!(offset_of!(uffdio_move, move_) == 32);
    assert!(offset_of!(uffdio_writeprotect, range) == 0);
    assert!(offset_of!(uffdio_writeprotect, mode) == 16);
    assert!(offset_of!(uffdio_continue, range) == 0);
    assert!(offset_of!(uffdio_continue, mode) == 16);
    assert!(offset_of!(uffdio_continue, mapped) == 24);
    assert!(offset_of!(uffdio_poison, range) == 0);
    assert!(offset_of!(uffdio_poison, mode) == 16);
    assert!(offset_of!(uffdio_poison, updated) == 24);
};

// Offsets of messages, as the decoder of `read.rs` assumes them.
const _: () = {
    use sys::{
        uffd_msg__bindgen_ty_1__bindgen_ty_1 as pagefault,
        uffd_msg__bindgen_ty_1__bindgen_ty_2 as fork,
        uffd_msg__bindgen_ty_1__bindgen_ty_3 as remap,
        uffd_msg__bindgen_ty_1__bindgen_ty_4 as remove,
    };
    assert!(offset_of!(sys::uffd_msg, event) == 0);
    assert!(offset_of!(sys::uffd_msg, arg) == MSG_ARG);
    assert!(offset_of!(pagefault, flags) == 0);
    assert!(offset_of!(pagefault, address) == 8);
    assert!(offset_of!(pagefault, feat) == 16);
    assert!(offset_of!(fork, ufd) == 0);
    assert!(offset_of!(remap, from) == 0);
    assert!(offset_of!(remap, to) == 8);
    assert!(offset_of!(remap, len) == 16);
    assert!(offset_of!(remove, start) == 0);
    assert!(offset_of!(remove, end) == 8);
};

// Opcodes: against the published numbers, and for all of them against the literal value.
const _: () = {
    assert!(API == numbers::UFFDIO_API && API == 0xc018_aa3f);
    assert!(REGISTER == numbers::UFFDIO_REGISTER && REGISTER == 0xc020_aa00);
    assert!(UNREGISTER == numbers::UFFDIO_UNREGISTER && UNREGISTER == 0x8010_aa01);
    assert!(WAKE == numbers::UFFDIO_WAKE && WAKE == 0x8010_aa02);
    assert!(COPY == numbers::UFFDIO_COPY && COPY == 0xc028_aa03);
    assert!(ZEROPAGE == numbers::UFFDIO_ZEROPAGE && ZEROPAGE == 0xc020_aa04);
    assert!(MOVE == 0xc028_aa05);
    assert!(WRITEPROTECT == numbers::UFFDIO_WRITEPROTECT && WRITEPROTECT == 0xc018_aa06);
    assert!(CONTINUE == numbers::UFFDIO_CONTINUE && CONTINUE == 0xc020_aa07);
    assert!(POISON == 0xc020_aa08);
    assert!(DEVICE_NEW == 0xaa00);
};

// Bit values of the seam's sets: the kernel's own wherever it publishes them, literals for
// the modes whose names the published bindings lack.
const _: () = {
    assert!(API_VERSION == sys::UFFD_API as u64 && GROUP as u32 == sys::UFFDIO);
    assert!(USER_MODE_ONLY == sys::UFFD_USER_MODE_ONLY);
    assert!(event::PAGEFAULT as u32 == sys::UFFD_EVENT_PAGEFAULT);
    assert!(event::FORK as u32 == sys::UFFD_EVENT_FORK);
    assert!(event::REMAP as u32 == sys::UFFD_EVENT_REMAP);
    assert!(event::REMOVE as u32 == sys::UFFD_EVENT_REMOVE);
    assert!(event::UNMAP as u32 == sys::UFFD_EVENT_UNMAP);

    assert!(FaultFlags::WRITE.bits() == sys::UFFD_PAGEFAULT_FLAG_WRITE as u64);
    assert!(FaultFlags::WP.bits() == sys::UFFD_PAGEFAULT_FLAG_WP as u64);
    assert!(FaultFlags::MINOR.bits() == sys::UFFD_PAGEFAULT_FLAG_MINOR as u64);

    assert!(Features::PAGEFAULT_FLAG_WP.bits() == sys::UFFD_FEATURE_PAGEFAULT_FLAG_WP as u64);
    assert!(Features::EVENT_FORK.bits() == sys::UFFD_FEATURE_EVENT_FORK as u64);
    assert!(Features::EVENT_REMAP.bits() == sys::UFFD_FEATURE_EVENT_REMAP as u64);
    assert!(Features::EVENT_REMOVE.bits() == sys::UFFD_FEATURE_EVENT_REMOVE as u64);
    assert!(Features::MISSING_HUGETLBFS.bits() == sys::UFFD_FEATURE_MISSING_HUGETLBFS as u64);
    assert!(Features::MISSING_SHMEM.bits() == sys::UFFD_FEATURE_MISSING_SHMEM as u64);
    assert!(Features::EVENT_UNMAP.bits() == sys::UFFD_FEATURE_EVENT_UNMAP as u64);
    assert!(Features::SIGBUS.bits() == sys::UFFD_FEATURE_SIGBUS as u64);
    assert!(Features::THREAD_ID.bits() == sys::UFFD_FEATURE_THREAD_ID as u64);
    assert!(Features::MINOR_HUGETLBFS.bits() == sys::UFFD_FEATURE_MINOR_HUGETLBFS as u64);
    assert!(Features::MINOR_SHMEM.bits() == sys::UFFD_FEATURE_MINOR_SHMEM as u64);
    assert!(Features::EXACT_ADDRESS.bits() == sys::UFFD_FEATURE_EXACT_ADDRESS as u64);
    assert!(Features::WP_HUGETLBFS_SHMEM.bits() == sys::UFFD_FEATURE_WP_HUGETLBFS_SHMEM as u64);
    assert!(Features::WP_UNPOPULATED.bits() == sys::UFFD_FEATURE_WP_UNPOPULATED as u64);
    assert!(Features::POISON.bits() == sys::UFFD_FEATURE_POISON as u64);
    assert!(Features::WP_ASYNC.bits() == sys::UFFD_FEATURE_WP_ASYNC as u64);
    assert!(Features::MOVE.bits() == sys::UFFD_FEATURE_MOVE as u64);

    assert!(RegisterModes::MISSING.bits() == sys::UFFDIO_REGISTER_MODE_MISSING as u64);
    assert!(RegisterModes::WP.bits() == sys::UFFDIO_REGISTER_MODE_WP as u64);
    assert!(RegisterModes::MINOR.bits() == sys::UFFDIO_REGISTER_MODE_MINOR as u64);
    assert!(CopyMode::DONTWAKE.bits() == sys::UFFDIO_COPY_MODE_DONTWAKE as u64);
    assert!(CopyMode::WP.bits() == sys::UFFDIO_COPY_MODE_WP as u64);
    assert!(ZeropageMode::DONTWAKE.bits() == sys::UFFDIO_ZEROPAGE_MODE_DONTWAKE as u64);
    assert!(ContinueMode::DONTWAKE.bits() == 1 && ContinueMode::WP.bits() == 2);
    assert!(WriteProtectMode::WP.bits() == 1 && WriteProtectMode::DONTWAKE.bits() == 2);
    assert!(MoveMode::DONTWAKE.bits() == 1 && MoveMode::ALLOW_SRC_HOLES.bits() == 2);
    assert!(PoisonMode::DONTWAKE.bits() == 1);
};
