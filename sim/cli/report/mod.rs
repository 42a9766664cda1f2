//! What a failing schedule leaves behind besides itself: a page to look at, a trace for a trace
//! viewer, a test to keep. Owns the list and the names; each of them is a file of its own.

mod html;
mod lanes;
mod perfetto;
mod regression;
mod strip;
mod style;

use std::sync::Arc;

use handler::Policy;
use sim::report::Story;
use sim::schedule::Schedule;

use crate::campaign::world;

/// The story of `schedule` with `policy`.
pub fn story(schedule: &Schedule, policy: &Policy) -> Story {
    Story::tell(schedule, &mut world(policy, &Arc::new(schedule.setup.clone())))
}

/// The files of a failure by their endings; `stem` is what they are called.
pub fn files(schedule: &Schedule, policy: &Policy, stem: &str) -> Vec<(&'static str, String)> {
    let story = story(schedule, policy);
    vec![
        ("html", html::page(schedule, &story, stem)),
        ("trace.json", perfetto::trace(schedule, &story)),
        ("rs", regression::test(schedule, stem)),
    ]
}
