//! The pages over time: for every page a bar of what the kernel has there and a bar of what the
//! handler takes it for, a column for each step, the end marked. Owns the drawing.

use maud::{Markup, html};
use sim::report::{Holds, Page, Story};

/// Sizes of the drawing, in its own units: what is left of the bars, the bars, how many steps are
/// numbered. On a phone all of it has to be seen at once, with letters of the same size.
struct Size {
    class: &'static str,
    left: usize,
    width: usize,
    numbers: usize,
}

const WIDE: Size = Size { class: "wide", left: 92, width: 860, numbers: 24 };
const NARROW: Size = Size { class: "narrow", left: 60, width: 296, numbers: 9 };
const BAR: usize = 15;
const GAP: usize = 9;

/// The colours, with what they stand for. On paper without colours the words in the bars tell
/// them apart.
const COLOURS: [(&str, &str, &str); 5] = [
    ("absent", "#ffffff", "no page"),
    ("zero", "#c9d3de", "zeros"),
    ("source", "#8fb8f6", "bytes of the source"),
    ("written", "#f3b562", "written by a task"),
    ("marker", "#d7a6e8", "a marker"),
];

/// The drawing of `story`.
pub(super) fn draw(story: &Story) -> Markup {
    html! {
        figure {
            @for size in [WIDE, NARROW] { (drawing(story, &size)) }
        }
        p.key {
            @for (_, colour, words) in COLOURS {
                span { i style={ "background:" (colour) } {} (words) }
            }
            @if story.outcome.failure.is_some() { span { i style="background:#c0182b" {} "here it fails" } }
        }
    }
}

fn drawing(story: &Story, size: &Size) -> Markup {
    let Size { left, width, .. } = *size;
    let moments: Vec<&[Page]> = std::iter::once(story.before.as_slice())
        .chain(story.scenes.iter().map(|scene| scene.pages.as_slice()))
        .collect();
    let pages = story.before.len();
    let per_page = 2 * BAR + GAP;
    let height = pages * per_page + 20;
    let x = |moment: usize| left as f64 + moment as f64 * width as f64 / moments.len() as f64;
    let every = moments.len().div_ceil(size.numbers).max(1);
    html! {
        svg class=(size.class) viewBox={ "0 0 " (left + width + 8) " " (height) } role="img"
            aria-label="What each page held at each step" {
            @for page in 0..pages {
                @let top = page * per_page;
                text x="0" y=(top + BAR - 4) {
                    @if size.left > 80 { "page " } (page) ", kernel"
                }
                text x="0" y=(top + 2 * BAR - 4) { "handler" }
                @for (row, bars) in bars(&moments, page).into_iter().enumerate() {
                    @let y = top + row * BAR;
                    @for bar in bars {
                        rect x=(px(x(bar.from))) y=(y) width=(px(x(bar.to) - x(bar.from)))
                            height=(BAR) fill=(bar.colour) stroke="#8a94a0" stroke-width=".7" {
                            title { "steps " (bar.from) " to " (bar.to - 1) ": " (bar.words) }
                        }
                        @if x(bar.to) - x(bar.from) > 6.2 * bar.word.len() as f64 {
                            text x=(px(x(bar.from) + 3.0)) y=(y + BAR - 4) { (bar.word) }
                        }
                    }
                }
            }
            @let end = left + width;
            @for moment in (0..moments.len()).step_by(every) {
                text x=(px(x(moment))) y=(height - 6) { (moment) }
            }
            @if story.outcome.failure.is_some() {
                line x1=(end) y1="0" x2=(end) y2=(height - 18) stroke="#c0182b" stroke-width="3" {
                    title { "the run fails here" }
                }
            }
        }
    }
}

/// A stretch of steps in which nothing changes.
struct Bar {
    from: usize,
    to: usize,
    colour: &'static str,
    word: String,
    words: String,
}

/// The bars of a page: the kernel's, then the handler's.
fn bars(moments: &[&[Page]], page: usize) -> [Vec<Bar>; 2] {
    let kernel = |at: &Page| {
        let (word, colour, _) = COLOURS[at.holds as usize];
        (word.to_owned(), colour, at.words.clone())
    };
    let handler = |at: &Page| {
        let holds = match at.state {
            "missing" | "removed" => Holds::Absent,
            "zero" => Holds::Zero,
            "clean" => Holds::Source,
            "dirty" => Holds::Written,
            _ => Holds::Marker,
        };
        let colour = COLOURS[holds as usize].1;
        (at.state.to_owned(), colour, format!("the handler takes it for {}", at.state))
    };
    [stretches(moments, page, &kernel), stretches(moments, page, &handler)]
}

fn stretches(
    moments: &[&[Page]],
    page: usize,
    look: &dyn Fn(&Page) -> (String, &'static str, String),
) -> Vec<Bar> {
    let mut bars: Vec<Bar> = Vec::new();
    for (moment, pages) in moments.iter().enumerate() {
        let (word, colour, words) = look(&pages[page]);
        match bars.last_mut() {
            Some(bar) if bar.words == words => bar.to = moment + 1,
            _ => bars.push(Bar { from: moment, to: moment + 1, colour, word, words }),
        }
    }
    bars
}

fn px(x: f64) -> String {
    format!("{x:.1}")
}
