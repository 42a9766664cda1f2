//! Schedules on which the default handler has failed, found by searches of the catalogue. Each is
//! the test that `faultbed explore` has left beside its schedule.

/// The handler `default` failed on this schedule (hang). Found by `faultbed explore --exhaustive`;
/// a million random schedules of the catalogue had not met it.
#[test]
fn the_default_handler_survives_snapshot_beside_munmap_hang() {
    faultbed::replay::assert_survives("default", SCHEDULE);

    const SCHEDULE: &str = include_str!("schedules/snapshot-beside-munmap-hang.schedule");
}
