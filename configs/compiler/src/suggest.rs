//! "Did you mean …": the known word nearest to what was written.

/// The candidate nearest to `word`, if one is near enough to be what was meant.
#[must_use]
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Longer words are looked at no further: no key and no built-in name is near them.
    if word.chars().count() > 40 {
        return None;
    }
    let word = word.to_lowercase();
    let near = |candidate: &&str| {
        let allowed = candidate.chars().count().max(3) / 3;
        let distance = distance(&word, &candidate.to_lowercase());
        (distance <= allowed).then_some(distance)
    };
    candidates
        .into_iter()
        .filter_map(|candidate| Some((near(&candidate)?, candidate)))
        .min()
        .map(|(_, name)| name)
}

/// How many single-character insertions, deletions, replacements and swaps of neighbours lead from `a` to `b`
/// (optimal string alignment), computed row by row.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    let mut previous = None;
    for (nth, x) in a.chars().enumerate() {
        let mut row = vec![nth.saturating_add(1)];
        for (column, y) in b.iter().enumerate() {
            let at = |row: &[usize], column: usize| row.get(column).copied().unwrap_or(usize::MAX);
            let right = column.saturating_add(1);
            let replace = at(&last, column).saturating_add(usize::from(x != *y));
            let insert = at(&row, column).saturating_add(1);
            let delete = at(&last, right).saturating_add(1);
            let mut best = replace.min(insert).min(delete);
            let left = column.checked_sub(1);
            if let Some(left) = left.filter(|left| b.get(*left) == Some(&x) && previous == Some(*y))
            {
                best = best.min(at(&before_last, left).saturating_add(1));
            }
            row.push(best);
        }
        before_last = std::mem::replace(&mut last, row);
        previous = Some(x);
    }
    last.last().copied().unwrap_or(0)
}

/// "a, b and c", each in backticks.
pub(crate) fn list<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = words.into_iter().map(|word| format!("`{word}`")).collect();
    match quoted.split_last() {
        None => String::new(),
        Some((only, [])) => only.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits() {
        for (a, b, edits) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("memory", "memory", 0),
            ("memry", "memory", 1),
            ("mmeory", "memory", 1),
            ("kitten", "sitting", 3),
            ("lans", "lanes", 1),
        ] {
            assert_eq!(distance(a, b), edits, "{a} → {b}");
            assert_eq!(distance(b, a), edits, "{b} → {a}");
        }
    }

    #[test]
    fn near_words_are_found_and_far_ones_are_not() {
        let keys = ["name", "kernel", "memory", "lanes"];
        assert_eq!(nearest("Memory", keys), Some("memory"));
        assert_eq!(nearest("kernal", keys), Some("kernel"));
        assert_eq!(nearest("nmae", keys), Some("name"));
        assert_eq!(nearest("disk", keys), None);
        assert_eq!(nearest("", keys), None);
        assert_eq!(nearest(&"lanes".repeat(1000), keys), None);
    }

    #[test]
    fn lists_read_like_text() {
        assert_eq!(list([]), "");
        assert_eq!(list(["a"]), "`a`");
        assert_eq!(list(["a", "b", "c"]), "`a`, `b` and `c`");
    }
}
