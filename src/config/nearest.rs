//! The known word nearest to a mistyped one.

/// The candidate with the fewest edits, if it is near enough to be what was meant: at most one edit in three
/// letters, and for a short word one.
pub fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // Longer than any option: no typing error of one, and no work spent on it.
    if word.chars().count() > LONGEST {
        return None;
    }
    let word = word.to_ascii_lowercase();
    let allowed = (word.chars().count() / 3).max(1);
    let by_distance = candidates.map(|candidate| (distance(&word, candidate), candidate));
    by_distance.filter(|(d, _)| *d <= allowed).min_by_key(|(d, _)| *d).map(|(_, candidate)| candidate)
}

const LONGEST: usize = 64;

/// Edits (insert, delete, replace, swap neighbours) from one word to the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    let mut last_a = None;
    for (row, letter) in a.chars().enumerate() {
        let mut current = vec![row + 1];
        let mut last_b = None;
        for (column, &other) in b.iter().enumerate() {
            let at = |line: &[usize], index: usize| line.get(index).copied().unwrap_or(usize::MAX - 1);
            let replaced = at(&above, column) + usize::from(letter != other);
            let mut best = replaced.min(at(&above, column + 1) + 1).min(at(&current, column) + 1);
            if last_a == Some(other) && last_b == Some(letter) {
                best = best.min(at(&before, column.saturating_sub(1)) + 1);
            }
            current.push(best);
            last_b = Some(other);
        }
        before = std::mem::replace(&mut above, current);
        last_a = Some(letter);
    }
    above.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", "abc"), 0);
        assert_eq!(distance("wrokers", "workers"), 1);
        assert_eq!(distance("kitten", "sitting"), 3);
    }

    #[test]
    fn only_near_words_are_offered() {
        let known = || ["https", "http", "workers", "to"].into_iter();
        assert_eq!(nearest("htps", known()), Some("https"));
        assert_eq!(nearest("Worker", known()), Some("workers"));
        assert_eq!(nearest("t", known()), Some("to"));
        assert_eq!(nearest("banana", known()), None);
        assert_eq!(nearest(&"a".repeat(1000), known()), None);
    }
}
