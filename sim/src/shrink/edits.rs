//! Smaller worlds: a scenario's text with something left out. Owns the edits. Working on the text
//! and not on what it means, they need not know the operations, and whatever the parser refuses
//! was no edit.

/// The scenarios that are one edit smaller than `text`, those that leave out most first.
pub(super) fn smaller(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().collect();
    let mut edits: Vec<Vec<String>> = Vec::new();
    let own = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
    let without = |drop: &dyn Fn(usize) -> bool| {
        let kept: Vec<_> = (0..lines.len()).filter(|i| !drop(*i)).map(|i| lines[i]).collect();
        own(&kept)
    };
    let indented = |i: usize| lines[i].starts_with("  ");

    // A task, or all conditions, with what belongs to it.
    for (i, line) in lines.iter().enumerate() {
        if line.starts_with("task ") || *line == "finally" {
            let end = (i + 1..lines.len()).find(|j| !indented(*j)).unwrap_or(lines.len());
            edits.push(without(&|j| (i..end).contains(&j)));
        }
    }
    // A label, with everybody who posts or awaits it.
    let mut labels: Vec<&str> =
        lines.iter().filter_map(|line| line.trim().strip_prefix("post ")).collect();
    labels.sort_unstable();
    labels.dedup();
    for label in labels {
        edits.push(without(&|i| {
            let line = lines[i].trim();
            [line.strip_prefix("post "), line.strip_prefix("await ")].contains(&Some(label))
        }));
    }
    // An operation or a condition.
    for i in (0..lines.len()).filter(|i| indented(*i)) {
        edits.push(without(&|j| j == i));
    }
    // A worker, a result, a part of a range. Not a feature: a handler that is told less is
    // another one.
    for (i, line) in lines.iter().enumerate() {
        let replaced = |with: String| {
            let mut edit = own(&lines);
            edit[i] = with;
            edit
        };
        if let Some(count) = line.strip_prefix("workers").and_then(|n| n.trim().parse::<u32>().ok())
            && count > 1
        {
            edits.push(replaced(format!("workers   {}", count - 1)));
        }
        // A mishap, as often as it may happen.
        if line.starts_with("mishaps") {
            for count in 0..line.split_whitespace().count() {
                edits.extend(without_a_mishap(line, count).map(|line| {
                    if line.is_empty() { without(&|j| j == i) } else { replaced(line) }
                }));
            }
        }
        if indented(i) {
            if let Some((operation, _)) = line.split_once(" -> ") {
                edits.push(replaced(operation.to_owned()));
            }
            if let Some((start, end, range)) = range(line)
                && end > start + 1
            {
                for (start, end) in [(start, start + 1), (start + 1, end), (start, end - 1)] {
                    edits.push(replaced(line.replacen(range, &format!("{start}..{end}"), 1)));
                }
            }
        }
    }
    edits.extend(without_a_page(&lines));
    edits.into_iter().map(|lines| lines.join("\n") + "\n").collect()
}

/// The line of the head without the word at `at` and the number behind it; nothing at all if
/// nothing is left to happen. `None` if that is no mishap.
fn without_a_mishap(line: &str, at: usize) -> Option<String> {
    let mut words: Vec<&str> = line.split_whitespace().collect();
    let number = |word: &&str| word.parse::<u8>().is_ok();
    if at == 0 || words.get(at).is_none_or(number) {
        return None;
    }
    words.remove(at);
    if words.get(at).is_some_and(number) {
        words.remove(at);
    }
    let (head, rest) = words.split_first()?;
    Some(if rest.is_empty() { String::new() } else { format!("{head}   {}", rest.join(" ")) })
}

/// The range of pages in an operation, and how it is written.
fn range(line: &str) -> Option<(u64, u64, &str)> {
    let word = line.split_whitespace().nth(1)?;
    let (start, end) = word.split_once("..")?;
    Some((start.parse().ok()?, end.parse().ok()?, word))
}

/// Leave out a page that nothing names by itself; those behind it move up.
fn without_a_page(lines: &[&str]) -> Vec<Vec<String>> {
    let memory = |line: &str| {
        let rest = line.strip_prefix("memory")?;
        let (count, rest) = rest.trim_start().split_once(' ')?;
        Some((count.parse::<u64>().ok()?, rest.to_owned()))
    };
    let Some((pages, _)) = lines.iter().find_map(|line| memory(line)) else { return Vec::new() };
    (0..pages)
        .rev()
        .filter_map(|gone| {
            let up = |page: u64| if page > gone { page - 1 } else { page };
            lines
                .iter()
                .map(|line| {
                    if let Some((count, rest)) = memory(line) {
                        return (count > 1).then(|| format!("memory    {} {rest}", count - 1));
                    }
                    let mut words = line.split_whitespace();
                    if !line.starts_with("  ") || words.next() == Some("inject") {
                        return Some((*line).to_owned());
                    }
                    if let Some((start, end, range)) = range(line) {
                        let (start, end) = (up(start), if end > gone { end - 1 } else { end });
                        return (start < end)
                            .then(|| line.replacen(range, &format!("{start}..{end}"), 1));
                    }
                    match words.next().and_then(|word| Some((word, word.parse::<u64>().ok()?))) {
                        Some((_, page)) if page == gone => None,
                        Some((word, page)) => Some(line.replacen(word, &up(page).to_string(), 1)),
                        None => Some((*line).to_owned()),
                    }
                })
                .collect()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
faultbed scenario 1

name      x
memory    3 pages
features  remove unmap
workers   2
mishaps   eagain 2 panic

task a
  read 0 -> source
  post go

task b
  await go
  dontneed 0..2

finally
  page 2 absent
";

    #[test]
    fn every_edit_leaves_something_out() {
        let edits = smaller(TEXT);
        let has = |part: &str, not: &str| {
            assert!(
                edits.iter().any(|edit| edit.contains(part) && !edit.contains(not)),
                "{part} without {not}"
            );
        };
        has("task b", "task a");
        has("task a", "finally");
        has("dontneed 0..2", "go\n");
        has("post go", "read");
        has("workers   1", "workers   2");
        has("  read 0\n", "source");
        has("dontneed 0..1", "0..2");
        has("dontneed 1..2", "0..2");
        // Page 1 goes: the range shrinks, page 2 moves up. Page 2 and page 0 are named.
        has("memory    2 pages", "memory    3");
        has("mishaps   eagain 2\n", "panic");
        has("mishaps   panic\n", "eagain");
        let page: Vec<_> = edits.iter().filter(|edit| edit.contains("memory    2")).collect();
        assert_eq!(page.len(), 1);
        assert!(page[0].contains("dontneed 0..1") && page[0].contains("page 1 absent"));
        assert!(edits.iter().all(|edit| edit.len() <= TEXT.len()));
    }
}
