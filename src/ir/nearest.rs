//! Suggestions for a name that matches nothing.

/// The most names suggested.
const OFFERED: usize = 3;

/// Returns the names of `known` nearest to `typed`, quoted for a message: first those that contain it, then those with
/// the smallest edit distance.
pub fn nearest_names<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let lower = typed.to_lowercase();
    let mut names: Vec<&str> = known.into_iter().filter(|name| !name.is_empty()).collect();
    names.sort_by_cached_key(|name| {
        let name = name.to_lowercase();
        (!name.contains(&lower), distance(&name, &lower))
    });
    names.dedup();
    let quoted: Vec<String> = names.iter().take(OFFERED).map(|name| format!("\"{name}\"")).collect();
    quoted.join(", ")
}

/// Returns the edit distance (Levenshtein 1966).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_the_known_ones() {
        let cases = [("kitten", "sitting", 3), ("", "abc", 3), ("conv1", "conv1", 0), ("conv1", "conv10", 1)];
        let wrong: Vec<_> = cases.iter().filter(|(a, b, expected)| distance(a, b) != *expected).collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }

    #[test]
    fn names_that_hold_what_was_typed_come_before_those_that_look_like_it() {
        let names = ["/b1/conv1/Conv", "/conv1/Conv", "/conv1/Conv", "", "coin", "/fc/Gemm"];
        let cases = [
            ("conv1", "\"/conv1/Conv\", \"/b1/conv1/Conv\", \"coin\""),
            ("/FC", "\"/fc/Gemm\", \"coin\", \"/conv1/Conv\""),
            ("coim", "\"coin\", \"/fc/Gemm\", \"/conv1/Conv\""),
        ];
        let wrong: Vec<_> =
            cases.iter().map(|(typed, _)| nearest_names(typed, names)).zip(cases).filter(|(n, c)| n != c.1).collect();
        assert!(wrong.is_empty(), "{wrong:?}");
        assert_eq!(nearest_names("x", []), "");
    }
}
