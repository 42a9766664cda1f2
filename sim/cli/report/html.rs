//! A failure as a page of its own: one file that fetches nothing, for a screen, a phone and
//! paper. Owns what stands on it and in which order; the lanes and the pages over time are drawn
//! elsewhere.

use maud::{DOCTYPE, Markup, PreEscaped, html};
use sim::report::Story;
use sim::schedule::Schedule;
use sim::shrink::runs;

use super::{lanes, strip, style};

/// The page of `schedule`, whose files are called `stem`.
pub(super) fn page(schedule: &Schedule, story: &Story, stem: &str) -> String {
    let setup = &schedule.setup;
    let class = story.outcome.failure.as_ref().map(|failure| failure.class());
    let title = match class {
        Some(class) => format!("{class} in {}", setup.name),
        None => setup.name.clone(),
    };
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="generator" content="faultbed";
                title { (title) }
                style { (PreEscaped(style::SHEET)) }
            }
            body {
                header {
                    p.brand { "Faultbed: one run, step by step" }
                    h1 {
                        @if let Some(class) = class { span.class { (class) } " in " }
                        (setup.name)
                    }
                    @if !setup.about.is_empty() { p { (setup.about) } }
                    (verdict(story))
                    (facts(schedule, stem))
                }
                (turns(story))
                section {
                    h2 { "The pages over time" }
                    (strip::draw(story))
                }
                section {
                    h2 { "Step by step" }
                    (lanes::draw(story))
                }
                section {
                    h2 { "The rules that this run meets" }
                    dl.rules {
                        @for rule in story.rules() {
                            dt { (rule.id) }
                            dd { (rule.says) " " small { "docs/kernel/" (rule.file) ".md" } }
                        }
                    }
                }
                details { summary { "The scenario" } pre { (setup) } }
                details { summary { "The schedule file" } pre { (schedule) } }
            }
        }
    }
    .into_string()
}

fn verdict(story: &Story) -> Markup {
    html! {
        @match &story.outcome.failure {
            Some(failure) => p.verdict { (failure) "." },
            None => p.verdict.well { "This run ended well." },
        }
    }
}

/// What to look at first; nothing, if nothing stands out.
fn turns(story: &Story) -> Markup {
    let turns = story.turns();
    html! {
        @if !turns.is_empty() {
            section {
                h2 { "What to look at" }
                ol.turns {
                    @for turn in turns {
                        li value=(turn.step) {
                            b { (turn.actor) ": " (turn.what) }
                            " \u{2014} " (turn.says) "."
                        }
                    }
                }
            }
        }
    }
}

fn facts(schedule: &Schedule, stem: &str) -> Markup {
    let fact = |name: &str, value: &str| {
        html! { div { dt { (name) } dd { (value) } } }
    };
    html! {
        dl.facts {
            (fact("handler", &schedule.handler))
            (fact("kernel", schedule.setup.profile.name()))
            (fact("runs", &runs(&schedule.steps).count().to_string()))
            (fact("steps", &schedule.steps.len().to_string()))
            (fact("seed", &format!("{}, walk {}", schedule.seed, schedule.walk)))
            (fact("digest", &format!("{:016x}", schedule.digest)))
            (fact("again", &format!("faultbed replay {stem}.schedule")))
        }
    }
}
