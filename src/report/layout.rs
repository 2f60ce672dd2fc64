//! Tables and paragraphs for a terminal of 100 columns.

use comfy_table::{CellAlignment, Table, presets};

use crate::shown::escaped;

/// The width of a terminal in columns.
const WIDTH: usize = 100;
/// Columns that the label of a paragraph takes.
const LABEL: usize = 11;
/// Names that are written out where a list of them stands in a line.
const WRITTEN_OUT: usize = 4;
/// The most characters of a name in a table; longer names are cut at the beginning.
const NAME: usize = 42;

/// Returns an empty table with columns of text, then columns of numbers.
pub(super) fn table(texts: &[&str], numbers: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header([texts, numbers].concat());
    for (i, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        column.set_cell_alignment(if i < texts.len() { CellAlignment::Left } else { CellAlignment::Right });
    }
    table
}

/// Adds a row, in which names from files make no lines of their own.
pub(super) fn add_row(table: &mut Table, cells: impl IntoIterator<Item = String>) {
    table.add_row(cells.into_iter().map(|cell| escaped(&cell).into_owned()));
}

/// Returns a single line, with control characters in names escaped.
pub(super) fn line(text: &str) -> String {
    escaped(text).into_owned()
}

/// Returns the text wrapped behind its label.
pub(super) fn paragraph(label: &str, text: &str) -> String {
    let mut lines = vec![format!("{label:<width$}", width = LABEL - 1)];
    for (i, word) in escaped(text).split_whitespace().enumerate() {
        let columns = lines.last().map_or(0, |line| line.chars().count());
        if i > 0 && columns + 1 + word.chars().count() > WIDTH {
            lines.push(" ".repeat(LABEL - 1));
        }
        if let Some(line) = lines.last_mut() {
            line.push(' ');
            line.push_str(word);
        }
    }
    lines.join("\n")
}

/// Returns the first names of a list, and how many more there are.
pub(super) fn some_of(names: &[&str]) -> String {
    match names.len().checked_sub(WRITTEN_OUT) {
        None | Some(0 | 1) => names.join(", "),
        Some(more) => format!("{} and {more} more", names[..WRITTEN_OUT].join(", ")),
    }
}

/// Returns the end of a name that is too long for a table.
pub(super) fn end_of(name: &str) -> String {
    match name.chars().count().checked_sub(NAME) {
        None | Some(0) => name.to_owned(),
        Some(more) => format!("…{}", name.chars().skip(more + 1).collect::<String>()),
    }
}

/// Groups names by their text, in the order of their first names.
pub(super) fn grouped<'a, K: PartialEq>(pairs: impl IntoIterator<Item = (&'a str, K)>) -> Vec<(K, Vec<&'a str>)> {
    let mut groups: Vec<(K, Vec<&str>)> = Vec::new();
    for (name, why) in pairs {
        match groups.iter_mut().find(|group| group.0 == why) {
            Some(group) => group.1.push(name),
            None => groups.push((why, vec![name])),
        }
    }
    groups
}

/// Returns multiply-accumulates in millions, a dash where they are not known.
pub(super) fn millions(macs: Option<u64>) -> String {
    macs.map_or_else(dash, |n| format!("{:.2}", n as f64 / 1e6))
}

/// Returns the text of an empty cell.
pub(super) fn dash() -> String {
    "-".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_stay_within_their_columns_and_lose_no_word() {
        let words: Vec<String> = (0..60).map(|i| format!("word{i}")).chain(["x".repeat(120)]).collect();
        let text = paragraph("label", &words.join(" "));
        let wide: Vec<&str> = text.lines().filter(|l| l.chars().count() > WIDTH && !l.contains("xxx")).collect();
        assert!(wide.is_empty() && text.lines().count() > 5, "{text}");
        let found: Vec<&str> = text.split_whitespace().collect();
        assert_eq!(found[1..], words.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(text.starts_with("label      word0 word1") && text.contains("\n           word"), "{text}");
        assert_eq!(paragraph("a longer label", "text"), "a longer label text");
    }

    #[test]
    fn long_lists_and_names_are_shortened() {
        let names: Vec<String> = (0..9).map(|i| format!("n{i}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert_eq!(some_of(&names), "n0, n1, n2, n3 and 5 more");
        assert_eq!(some_of(&names[..5]), "n0, n1, n2, n3, n4");
        let long = end_of(&format!("{}/end", "é".repeat(NAME)));
        assert_eq!((long.chars().count(), long.ends_with("é/end"), long.starts_with('…')), (NAME, true, true));
        assert_eq!(end_of("short"), "short");
        assert_eq!(grouped([("a", 1), ("b", 2), ("c", 1)]), [(1, vec!["a", "c"]), (2, vec!["b"])]);
    }
}
