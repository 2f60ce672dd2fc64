//! Where commands write: looked at before the work begins, so that nothing that is read is overwritten, and nothing is left
//! behind where it cannot be written.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::files::DraftFolder;
use crate::onnx::files_of;

/// The files that a command reads.
pub(super) struct Sources<'a> {
    model: &'a Path,
    /// Flags and their files.
    named: Vec<(&'static str, PathBuf)>,
}

/// A folder that a command writes files to, whose names have the same ending.
pub(super) struct Folder<'a> {
    /// The flag that names it.
    pub flag: &'static str,
    /// The folder.
    pub path: &'a Path,
    /// The ending of the names.
    pub ending: &'static str,
}

impl<'a> Sources<'a> {
    /// Returns the sources of a command that reads the model.
    pub(super) fn new(model: &'a Path) -> Self {
        Self { model, named: Vec::new() }
    }

    /// Adds the file of a flag, if given.
    #[must_use]
    pub(super) fn and(mut self, flag: &'static str, path: Option<impl Into<PathBuf>>) -> Self {
        self.named.extend(path.map(|path| (flag, path.into())));
        self
    }

    /// Returns every file that is read, and why it must not be overwritten.
    ///
    /// # Errors
    /// [`Error::Read`] where the model is no file.
    fn files(&self) -> Result<Vec<(PathBuf, String)>> {
        let of_model = match files_of(self.model) {
            // Outputs are named after the model where nobody names them.
            Err(unreadable @ Error::Read { .. }) => return Err(unreadable),
            // What is no model is refused with its reason when it is loaded.
            found => found.unwrap_or_else(|_| vec![self.model.to_owned()]),
        };
        let why = |i| if i == 0 { "is the model itself" } else { "holds the model's own weights" };
        let of_model = of_model.iter().enumerate().map(|(i, path)| (real(path), why(i).to_owned()));
        let named = self.named.iter().map(|(flag, path)| (real(path), format!("is read as {flag}")));
        Ok(of_model.chain(named).collect())
    }
}

/// Returns the resolved paths of output files, which overwrite none of `sources`.
///
/// # Errors
/// [`Error::Usage`] for a path that is read, a directory, a device or another one of `paths`, and for all that have the
/// names of what is written into `folders`; [`Error::Write`] where a folder takes no new file; [`Error::Read`] where the
/// model is no file.
pub(super) fn destinations<const N: usize>(
    sources: &Sources,
    folders: &[Folder],
    paths: [&Path; N],
) -> Result<[PathBuf; N]> {
    let kept = sources.files()?;
    let places = paths.map(real);
    for (i, (path, place)) in paths.iter().zip(&places).enumerate() {
        refuse_other_than_files(path)?;
        let place_of = path.display();
        if let Some((_, why)) = kept.iter().find(|(known, _)| known == place) {
            return Err(Error::Usage(format!("{place_of} {why}; name another output")));
        }
        if places[..i].contains(place) {
            return Err(Error::Usage(format!("{place_of} is named for two outputs; name two files")));
        }
    }
    for folder in folders {
        folder.refuse(kept.iter().map(|(path, _)| path).chain(&places))?;
    }
    for path in &paths {
        DraftFolder::beside(path)?;
    }
    Ok(paths.map(|path| path.canonicalize().unwrap_or_else(|_| path.to_owned())))
}

impl Folder<'_> {
    /// Refuses a folder that is none, and one into which a file of one of `paths` would be written.
    fn refuse<'p>(&self, paths: impl Iterator<Item = &'p PathBuf>) -> Result<()> {
        let Self { flag, path: folder, ending } = self;
        if folder.exists() && !folder.is_dir() {
            return Err(Error::Usage(format!("{flag} {} is not a folder; name a folder", folder.display())));
        }
        let folder = real(folder);
        let has_ending = |path: &PathBuf| path.to_string_lossy().ends_with(ending);
        let mut taken = paths.filter(|path| path.parent() == Some(&folder) && has_ending(path));
        taken.next().map_or(Ok(()), |path| {
            let message =
                format!("{} is where {flag} writes files; name another folder or another file", path.display());
            Err(Error::Usage(message))
        })
    }
}

/// Returns the path without symbolic links, as far as there is anything at it.
fn real(path: &Path) -> PathBuf {
    let within = || {
        let (parent, name) = (path.parent()?, path.file_name()?);
        Some(real(if parent.as_os_str().is_empty() { Path::new(".") } else { parent }).join(name))
    };
    path.canonicalize().ok().or_else(within).unwrap_or_else(|| path.to_owned())
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
