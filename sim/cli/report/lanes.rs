//! The steps in lanes: one for every actor that moves, one for the userfaultfd's queues, one for
//! what kernel and handler hold of each page. Owns the rows.

use maud::{Markup, html};
use sim::report::{Kind, Page, Queues, Scene, Story};

/// The rows of `story`.
pub(super) fn draw(story: &Story) -> Markup {
    let movers = story.movers();
    let lanes = movers.len();
    // Who never goes on: whose name the verdict begins a sentence with.
    let verdict = story.outcome.failure.as_ref().map(ToString::to_string).unwrap_or_default();
    let stuck = |name: &str| verdict.split("; ").any(|part| part.split(' ').next() == Some(name));
    html! {
        p.legend {
            "Blue: threads of the process. Green: threads of the handler. A row is one step: nobody \
             can look in between. Beside it stand the messages that are queued or taken, and what \
             has changed: what the kernel has in a page / what the handler takes it for."
        }
        div style={ "--lanes:" (lanes) } {
            div.row.head {
                span.n { "#" }
                @for actor in &movers {
                    @let name = &story.actors[*actor].name;
                    span.stuck[stuck(name)] { (name) }
                }
                span { "userfaultfd" }
                span { "kernel / handler" }
            }
            @for (i, scene) in story.scenes.iter().enumerate() {
                @let before = i.checked_sub(1).map(|i| &story.scenes[i]);
                (row(story, &movers, i, scene, before))
            }
            @if let Some(failure) = &story.outcome.failure {
                p.fatal { (failure.class().to_uppercase()) ": " (failure) }
            }
        }
    }
}

fn row(story: &Story, movers: &[usize], i: usize, scene: &Scene, before: Option<&Scene>) -> Markup {
    let actor = &story.actors[scene.actor];
    let lane = movers.iter().position(|mover| *mover == scene.actor).unwrap_or(0);
    let kind = match actor.kind {
        Kind::Task => "task",
        Kind::Handler => "handler",
        Kind::Clock => "clock",
    };
    let queues = before.map_or_else(Queues::default, |before| before.queues);
    let pages = before.map_or(&story.before, |before| &before.pages);
    html! {
        div.row.run[before.is_none_or(|before| before.actor != scene.actor)] {
            span.n { (i + 1) }
            div class={ "card " (kind) } style={ "grid-column:" (lane + 2) } {
                b { (actor.name) }
                (scene.what)
                @if let Some(rule) = scene.rule {
                    " "
                    span.rule tabindex="0" { (rule.id) span.tip { (rule.says) } }
                }
            }
            div.side style={ "grid-column:" (movers.len() + 2) } { (queue_words(scene.queues, queues)) }
            div.side style={ "grid-column:" (movers.len() + 3) } { (page_words(&scene.pages, pages)) }
        }
    }
}

fn queue_words(now: Queues, before: Queues) -> Markup {
    let counts = [
        ("unread", now.unread, before.unread),
        ("taken", now.taken, before.taken),
        ("events", now.events, before.events),
    ];
    html! {
        @for (name, count, old) in counts {
            @if count > 0 { span.new[count != old] { (name) " " (count) } }
        }
        @if now.changing > 0 {
            span.changing.new[now.changing != before.changing] { "changing " (now.changing) }
        }
    }
}

/// What has changed with this step.
fn page_words(now: &[Page], before: &[Page]) -> Markup {
    html! {
        @for (page, (now, old)) in now.iter().zip(before).enumerate() {
            @if now != old {
                span.page.new { "page " (page) ": " (now.words) " / " (now.state) }
            }
        }
    }
}
