//! Where `quantize` writes: looked at before the work begins, so that nothing is left behind where it cannot.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::files::draft_of;
use crate::onnx::files_of;

/// Returns where files go, symbolic links followed; `model` is what is read, and stays as it is.
///
/// # Errors
/// [`Error::Usage`] for a path that is the model itself or holds its weights, a directory, a device or another one of
/// `paths`; [`Error::Write`] where the folder takes no new file; [`Error::Read`] where the model is no file.
pub(super) fn destinations<const N: usize>(model: &Path, paths: [&Path; N]) -> Result<[PathBuf; N]> {
    let kept = match files_of(model) {
        // Outputs are named after the model where nobody names them.
        Err(unreadable @ Error::Read { .. }) => return Err(unreadable),
        // What is no model is refused with its reason when it is loaded.
        found => found.unwrap_or_else(|_| vec![model.to_owned()]),
    };
    let kept: Vec<PathBuf> = kept.iter().map(|path| real(path)).collect();
    let paths = paths.map(real);
    for (i, path) in paths.iter().enumerate() {
        refuse_other_than_files(path)?;
        refuse_kept(path, &kept)?;
        if paths[..i].contains(path) {
            return Err(Error::Usage(format!("{} is named for two outputs; name two files", path.display())));
        }
    }
    for path in &paths {
        draft_of(path)?;
    }
    Ok(paths)
}

/// Returns where the weights of a model at `output` go when they do not fit into it.
pub(super) fn weights_beside(output: &Path) -> PathBuf {
    let mut name = output.as_os_str().to_owned();
    name.push(".data");
    name.into()
}

fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

fn refuse_kept(path: &Path, kept: &[PathBuf]) -> Result<()> {
    match kept.iter().position(|known| known == path) {
        Some(0) => Err(Error::Usage(format!("{} is the model itself; name another file", path.display()))),
        Some(_) => {
            let place = path.display();
            Err(Error::Usage(format!("{place} holds the model's own weights; name another output")))
        }
        None => Ok(()),
    }
}

fn refuse_other_than_files(path: &Path) -> Result<()> {
    let refused = |what: &str| Err(Error::Usage(format!("{} {what}; name a file to be written", path.display())));
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => refused("is a directory"),
        Ok(found) if !found.is_file() => refused("is no regular file"),
        _ if path.file_name().is_none() => refused("names no file"),
        _ => Ok(()),
    }
}
