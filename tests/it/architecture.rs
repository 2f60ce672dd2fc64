//! Who may import whom: the rooms of `src` as README's "Reading the code" names them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Rooms that only these may import.
const BOUNDARIES: &[(&str, &[&str])] = &[
    ("recipes", &["cli", "pipeline"]),
    ("pipeline", &["cli"]),
    ("cli", &[]),
    ("report", &["cli", "pipeline"]),
    ("verdict", &["cli", "pipeline", "report"]),
    ("emit", &["pipeline"]),
    ("lab", &["pipeline", "recipes"]),
    ("place", &["emit", "sensitivity", "train"]),
    ("calibrate", &["lab", "pipeline", "recipes"]),
    ("synthesis", &["cli", "lab", "pipeline", "recipes", "report"]),
];
/// Rooms that import each other.
const CIRCLES: &[[&str; 2]] = &[["audit", "plan"], ["data", "stats"]];

/// The rooms that each room imports, tests left out.
fn imports() -> BTreeMap<String, BTreeSet<String>> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut waiting = vec![src.clone()];
    while let Some(folder) = waiting.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
                continue;
            }
            let inside = path.strip_prefix(&src).unwrap();
            let room = inside.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs").to_owned();
            let text = std::fs::read_to_string(&path).unwrap();
            let text = text.split("#[cfg(test)]").next().unwrap();
            let named = text.split("crate::").skip(1).flat_map(|rest| match rest.strip_prefix('{') {
                Some(list) => list.split('}').next().unwrap().split(',').map(word).collect::<Vec<_>>(),
                None => vec![word(rest)],
            });
            found.entry(room.clone()).or_default().extend(named.filter(|name| *name != room));
        }
    }
    let rooms: BTreeSet<String> = found.keys().cloned().collect();
    found.values_mut().for_each(|imported| imported.retain(|name| rooms.contains(name)));
    found
}

/// The name at the start of `text`.
fn word(text: &str) -> String {
    text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

#[test]
fn rooms_are_imported_by_those_above_them_alone() {
    let imports = imports();
    assert!(imports.len() > 20 && imports["pipeline"].contains("recipes"), "{imports:?}");
    let mut wrong = Vec::new();
    for (room, allowed) in BOUNDARIES {
        for (by, imported) in imports.iter().filter(|(by, _)| !["lib", "main"].contains(&by.as_str())) {
            if imported.contains(*room) && !allowed.contains(&by.as_str()) {
                wrong.push(format!("{by} imports {room}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn rooms_import_each_other_in_no_circle() {
    let mut left = imports();
    for [a, b] in CIRCLES {
        assert!(left[*a].contains(*b) && left[*b].contains(*a), "{a} and {b} are no circle any more: take them out");
        left.get_mut(*b).unwrap().remove(*a);
    }
    // What imports nothing that is left goes, until nothing is left or all that is left imports something of it.
    loop {
        let names: BTreeSet<String> = left.keys().cloned().collect();
        let before = left.len();
        left.retain(|_, imported| imported.iter().any(|name| names.contains(name)));
        if left.len() == before {
            break;
        }
    }
    assert!(left.is_empty(), "rooms in circles, or behind one: {:?}", left.keys());
}
