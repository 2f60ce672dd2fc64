//! External data files, named after their first model and the digest of their contents, so that a model never reads the
//! weights of another one.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use crate::files::{draft_folders, folder_of, start_of};
use crate::onnx::files_of;

/// Digits of the sha256 in a file's name.
const DIGITS: usize = 16;
/// First bytes of files that may be models: the tags of a model's fields.
const TAGS: &[u8] = &[0x08, 0x12, 0x1a, 0x22, 0x28, 0x32, 0x3a, 0x42, 0x72, 0xa2, 0xca];

/// Returns the name of the external data file with this sha256 for the model named `model`.
pub fn data_name(model: &str, sha256: &str) -> String {
    format!("{model}.{}.data", &sha256[..DIGITS.min(sha256.len())])
}

fn is_data_of(model: &str, name: &OsStr) -> bool {
    let digits = name.to_str().and_then(|name| name.strip_prefix(model)?.strip_prefix('.')?.strip_suffix(".data"));
    digits.is_some_and(|digits| digits.len() == DIGITS && digits.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Removes external data files of earlier models at `output` that no model in its folder reads: neither the current
/// one, nor a copy of an earlier one under another name, nor one about to be published.
pub fn remove_unread(output: &Path) {
    let (folder, name) = (folder_of(output), output.file_name().unwrap_or_default().to_string_lossy());
    let candidates: Vec<PathBuf> =
        files_in(folder).into_iter().filter(|path| is_data_of(&name, name_of(path))).collect();
    let read = |model: &PathBuf| -> Vec<OsString> {
        let files = files_of(model).unwrap_or_default();
        files.iter().skip(1).map(|path| name_of(path).to_owned()).collect()
    };
    let current = read(&output.to_owned());
    if candidates.iter().all(|path| current.iter().any(|name| name == name_of(path))) {
        return;
    }
    // Drafts first: one that is published meanwhile is found in its place then.
    let drafts: Vec<PathBuf> = draft_folders(folder).iter().flat_map(|folder| files_in(folder)).collect();
    let mut kept: HashSet<OsString> = drafts.iter().filter(|path| may_be_model(path)).flat_map(read).collect();
    kept.extend(files_in(folder).iter().filter(|path| may_be_model(path)).flat_map(read));
    for path in candidates.iter().filter(|path| !kept.contains(name_of(path))) {
        if let Err(e) = std::fs::remove_file(path) {
            tracing::warn!("cannot remove {}, which no model reads any more: {e}", path.display());
        }
    }
}

fn name_of(path: &Path) -> &OsStr {
    path.file_name().unwrap_or_default()
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    entries.filter(|path| path.is_file()).collect()
}

fn may_be_model(path: &Path) -> bool {
    start_of(path, 1).is_ok_and(|start| start.first().is_some_and(|tag| TAGS.contains(tag)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::{Graph, Tensor};
    use crate::onnx::Draft;

    fn model(value: f32) -> Graph {
        let mut graph = Graph::default();
        let w = graph.add_constant("w", Tensor::from_f32(&[1000], &[value; 1000]));
        graph.outputs.push(w);
        graph
    }

    fn publish(folder: &Path, name: &str, value: f32) -> String {
        let output = folder.join(name);
        let draft = Draft::write(&model(value), &output, true).unwrap();
        let data = draft.saved.data.as_deref().map(name_of).unwrap().to_string_lossy().into_owned();
        draft.publish(&output).unwrap();
        data
    }

    fn data_in(folder: &Path) -> Vec<String> {
        let names = files_in(folder).into_iter().map(|path| name_of(&path).to_string_lossy().into_owned());
        let mut names: Vec<String> = names.filter(|name| name.ends_with(".data")).collect();
        names.sort();
        names
    }

    #[test]
    fn weights_go_once_no_model_reads_them() {
        let made = tempfile::tempdir().unwrap();
        let folder = made.path();
        let first = publish(folder, "m.onnx", 1.0);
        assert_eq!(publish(folder, "m.onnx", 1.0), first, "the same contents have the same name");
        // Not ours to remove: others' names, and one that was written for another model.
        let others = ["m.onnx.data", "m.onnx.0123.data", "n.onnx.0123456789abcdef.data"];
        others.iter().for_each(|name| std::fs::write(folder.join(name), "").unwrap());
        std::fs::copy(folder.join("m.onnx"), folder.join("m.backup")).unwrap();
        let second = publish(folder, "m.onnx", 2.0);
        let sorted = |names: &[&str]| {
            let mut names: Vec<String> = names.iter().chain(&others).map(|name| (*name).to_owned()).collect();
            names.sort();
            names
        };
        assert_eq!(data_in(folder), sorted(&[&first, &second]), "the copy still reads its weights");
        std::fs::remove_file(folder.join("m.backup")).unwrap();
        let third = publish(folder, "m.onnx", 3.0);
        assert_eq!(data_in(folder), sorted(&[&third]));
    }

    #[test]
    fn weights_of_a_draft_stay() {
        let made = tempfile::tempdir().unwrap();
        let output = made.path().join("m.onnx");
        let draft = Draft::write(&model(1.0), &output, true).unwrap();
        let data = draft.saved.data.clone().unwrap();
        // As far as another process got that publishes at the same time.
        std::fs::copy(&data, output.with_file_name(name_of(&data))).unwrap();
        publish(made.path(), "m.onnx", 2.0);
        assert!(output.with_file_name(name_of(&data)).exists());
    }
}
