//! The nearest name in a list, for "did you mean".

/// The candidate with the smallest edit distance, if that is small enough to be a typing error.
pub(super) fn nearest<'a>(name: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let (distance, near) = candidates
        .iter()
        .map(|candidate| (edit_distance(name, candidate), *candidate))
        .min_by_key(|(distance, _)| *distance)?;
    // A third of the letters: more is another word, and naming it would mislead.
    (distance <= name.chars().count().max(near.len()).div_ceil(3)).then_some(near)
}

/// Levenshtein distance, row by row.
fn edit_distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in to.iter().enumerate() {
            let substitute = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, distance) in [("", "abc", 3), ("listen", "listen", 0), ("lisen", "listen", 1)] {
            assert_eq!(edit_distance(a, b), distance, "{a} {b}");
        }
    }

    #[test]
    fn only_typing_errors_have_a_nearest_name() {
        let names = ["listen", "advertised", "allow_plaintext"];
        assert_eq!(nearest("advertized", &names), Some("advertised"));
        assert_eq!(nearest("allow-plaintext", &names), Some("allow_plaintext"));
        assert_eq!(nearest("quota", &names), None);
        assert_eq!(nearest("x", &[]), None);
    }
}
