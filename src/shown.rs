//! Paths and names from outside as they are shown, in documents and in messages: always text, and on one line.

use std::borrow::Cow;
use std::fmt::Write;
use std::path::Path;

use serde::Serializer;

/// Characters that are no control characters and turn the direction of the text behind them, or begin a line.
const TURNING: &[char] = &[
    '\u{61c}', '\u{200e}', '\u{200f}', '\u{2028}', '\u{2029}', '\u{202a}', '\u{202b}', '\u{202c}', '\u{202d}',
    '\u{202e}', '\u{2066}', '\u{2067}', '\u{2068}', '\u{2069}',
];

/// Writes a path as text; bytes that are no Unicode are written as U+FFFD.
///
/// # Errors
/// Those of the serializer.
pub fn path<S: Serializer>(path: impl AsRef<Path>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.as_ref().to_string_lossy())
}

/// Writes a path as [`path`] does, where there is one.
///
/// # Errors
/// Those of the serializer.
pub fn some_path<S: Serializer>(path: &Option<impl AsRef<Path>>, serializer: S) -> Result<S::Ok, S::Error> {
    match path {
        Some(path) => serializer.serialize_some(&path.as_ref().to_string_lossy()),
        None => serializer.serialize_none(),
    }
}

/// Returns text with control characters as `\n`, `\t` or `\u{1b}`, so that no name from a file moves the cursor of a terminal
/// or makes lines of its own.
pub fn escaped(text: &str) -> Cow<'_, str> {
    escaped_but(text, |_| false)
}

/// Returns [`escaped`] text of several lines.
pub fn escaped_lines(text: &str) -> Cow<'_, str> {
    escaped_but(text, |character| character == '\n')
}

fn escaped_but(text: &str, stays: impl Fn(char) -> bool) -> Cow<'_, str> {
    let is_odd = |character: char| (character.is_control() || TURNING.contains(&character)) && !stays(character);
    if !text.contains(is_odd) {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        match is_odd(character) {
            true => {
                let _ = match character {
                    '\n' | '\r' | '\t' => write!(plain, "{}", character.escape_default()),
                    _ => write!(plain, "{}", character.escape_unicode()),
                };
            }
            false => plain.push(character),
        }
    }
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_written_out_and_nothing_else_is() {
        let cases = [
            ("conv1/Größe \u{1f642} \"quoted\" C:\\x", "conv1/Größe \u{1f642} \"quoted\" C:\\x"),
            ("a\u{1b}[2Jb", "a\\u{1b}[2Jb"),
            ("a\nerror: b\r\t\0", "a\\nerror: b\\r\\t\\u{0}"),
            ("\u{85}\u{202e}\u{2028}", "\\u{85}\\u{202e}\\u{2028}"),
        ];
        let wrong: Vec<_> = cases.iter().filter(|(text, expected)| escaped(text) != *expected).collect();
        assert!(wrong.is_empty(), "{wrong:?}");
        assert_eq!(escaped_lines("a\nb\u{7}"), "a\nb\\u{7}");
    }

    #[cfg(unix)]
    #[test]
    fn paths_that_are_no_unicode_are_text_in_documents() {
        use std::os::unix::ffi::OsStrExt;
        #[derive(serde::Serialize)]
        struct Document<'a> {
            #[serde(serialize_with = "path")]
            model: &'a Path,
            #[serde(serialize_with = "some_path")]
            output: Option<&'a Path>,
        }
        let model = Path::new(std::ffi::OsStr::from_bytes(b"m\xff.onnx"));
        let json = |output| serde_json::to_string(&Document { model, output }).unwrap();
        assert_eq!(json(Some(model)), "{\"model\":\"m\u{fffd}.onnx\",\"output\":\"m\u{fffd}.onnx\"}");
        assert_eq!(json(None), "{\"model\":\"m\u{fffd}.onnx\",\"output\":null}");
    }
}
