//! Files of other formats given as ONNX models: recognizes them by their first bytes and advises how to convert them.

use std::path::Path;

use crate::error::Error;

/// The most bytes searched for names and words that identify an archive or protobuf file.
const SEARCHED: usize = 1 << 20;

/// A kind of file that is not an ONNX model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Foreign {
    /// Its description, with an article.
    pub what: &'static str,
    /// How to get an ONNX model.
    pub advice: &'static str,
}

const fn kind(what: &'static str, advice: &'static str) -> Foreign {
    Foreign { what, advice }
}

const UNPACK: &str = "unpack it, and name the .onnx file in it";
const FROM_SOURCE: &str = "name the .onnx file that it was made from";
const NO_GRAPH: &str = "it holds weights without a graph: export the model with the framework it belongs to \
                        (torch.onnx.export, or optimum-cli export onnx --model NAME FOLDER)";
const TO_TENSORFLOW: &str = "convert it with tf2onnx (python -m tf2onnx.convert --graphdef FILE --inputs NAME:0 \
                             --outputs NAME:0 --output model.onnx)";

const PYTORCH: Foreign = kind(
    "a PyTorch file",
    "load it in Python and export it with torch.onnx.export(model, example_inputs, \"model.onnx\")",
);
const PICKLE: Foreign = kind("a Python pickle, such as a PyTorch file", PYTORCH.advice);
const KERAS: Foreign = kind(
    "a Keras file",
    "convert it with tf2onnx (python -m tf2onnx.convert --keras FILE --output model.onnx), or in Python with \
     model.export(\"model.onnx\", format=\"onnx\")",
);
const TFLITE: Foreign = kind(
    "a TensorFlow Lite model",
    "convert it with tf2onnx (python -m tf2onnx.convert --tflite FILE --output model.onnx), from a float model rather \
     than from a quantized one",
);
const SAVED_MODEL: Foreign = kind(
    "a TensorFlow SavedModel",
    "convert its folder with tf2onnx (python -m tf2onnx.convert --saved-model FOLDER --output model.onnx)",
);
const ARRAYS: Foreign = kind("a NumPy file", "name the model; arrays go with --data or --eval");
const HTML: Foreign = kind("a web page", "download the file itself, by its \"raw\" or \"download\" link");
const IMAGE: Foreign = kind("an image", "name the model; images go into one .npz array");

/// First bytes at an offset that identify a format.
const SIGNATURES: &[(usize, &[u8], Foreign)] = &[
    (4, b"TFL3", TFLITE),
    (0, b"\x89HDF\r\n\x1a\n", KERAS),
    (0, b"\x80\x02", PICKLE),
    (0, b"\x80\x03", PICKLE),
    (0, b"\x80\x04", PICKLE),
    (0, b"\x80\x05", PICKLE),
    (4, b"ET12", kind("an ExecuTorch program", FROM_SOURCE)),
    (4, b"ORTM", kind("a model in ONNX Runtime's own format (.ort)", FROM_SOURCE)),
    (0, b"GGUF", kind("a GGUF file", NO_GRAPH)),
    (0, b"RKNN", kind("an RKNN model", FROM_SOURCE)),
    (0, b"ptrt", kind("a TensorRT engine", FROM_SOURCE)),
    (0, b"ftrt", kind("a TensorRT engine", FROM_SOURCE)),
    (0, b"version https://git-lfs", kind("a Git LFS pointer", "fetch the file itself with git lfs pull")),
    (0, b"/annex/objects/", kind("a git-annex pointer", "fetch the file itself with git annex get")),
    (0, b"\x1f\x8b", kind("a gzip archive", UNPACK)),
    (0, b"\x28\xb5\x2f\xfd", kind("a Zstandard archive", UNPACK)),
    (0, b"\xfd7zXZ\0", kind("an xz archive", UNPACK)),
    (0, b"BZh", kind("a bzip2 archive", UNPACK)),
    (0, b"7z\xbc\xaf\x27\x1c", kind("a 7-Zip archive", UNPACK)),
    (0, b"Rar!", kind("a RAR archive", UNPACK)),
    (257, b"ustar", kind("a tar archive", UNPACK)),
    (0, b"\x93NUMPY", ARRAYS),
    (0, b"\x89PNG", IMAGE),
    (0, b"\xff\xd8\xff", IMAGE),
    (0, b"%PDF", kind("a PDF document", "name the model")),
    (0, b"ir_version:", kind("an ONNX model as text", "parse it with google.protobuf.text_format, and onnx.save it")),
];

/// Names of files in zip archives, which are not compressed.
const MEMBERS: &[(&[u8], Foreign)] = &[
    (b"data.pkl", PYTORCH),
    (b".npy", ARRAYS),
    (b"model.weights.h5", KERAS),
    (b"saved_model.pb", SAVED_MODEL),
    (b"", kind("a zip archive", UNPACK)),
];

/// Words in other protobuf files, and their first byte.
const WORDS: &[(u8, &[u8], Foreign)] = &[
    (
        0x0a,
        b"op_callstack",
        kind("a PaddlePaddle model", "convert it with paddle2onnx --model_dir FOLDER --save_file model.onnx"),
    ),
    (0x0a, b"Placeholder", kind("a TensorFlow graph", TO_TENSORFLOW)),
    (0x0a, b"Convolution", kind("a Caffe model", "convert it with caffe2onnx or mmdnn")),
    (0x08, b"StatefulPartitionedCall", SAVED_MODEL),
    (0x08, b"saver_def", SAVED_MODEL),
    (0x08, b"coremltools", kind("a Core ML model", FROM_SOURCE)),
];

/// Returns the kind of a file that is not an ONNX model, if recognized. Do not call it for ONNX models.
pub fn kind_of(bytes: &[u8]) -> Option<Foreign> {
    if bytes.is_empty() {
        return Some(kind("empty", "fetch or export it again"));
    }
    let signed = |(at, signature, _): &&(usize, &[u8], Foreign)| {
        bytes.get(*at..).is_some_and(|bytes| bytes.starts_with(signature))
    };
    if let Some((.., found)) = SIGNATURES.iter().find(signed) {
        return Some(*found);
    }
    let searched = &bytes[..bytes.len().min(SEARCHED)];
    let holds = |word: &[u8]| word.is_empty() || searched.windows(word.len()).any(|window| window == word);
    if bytes.starts_with(b"PK\x03\x04") {
        return MEMBERS.iter().find(|(name, _)| holds(name)).map(|(_, found)| *found);
    }
    // A length, then the JSON header of that length.
    let header = bytes.first_chunk::<8>().map(|n| u64::from_le_bytes(*n));
    if bytes.get(8) == Some(&b'{') && header.is_some_and(|n| usize::try_from(n).is_ok_and(|n| n < bytes.len())) {
        return Some(kind("a safetensors file", NO_GRAPH));
    }
    let by_words = || WORDS.iter().find(|(first, word, _)| bytes[0] == *first && holds(word)).map(|(.., found)| *found);
    kind_of_text(bytes).or_else(by_words)
}

fn kind_of_text(bytes: &[u8]) -> Option<Foreign> {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(1 << 16)]).to_lowercase();
    let text = text.trim_start_matches('\u{feff}').trim_start();
    let begins = |words: &[&str]| words.iter().any(|word| text.starts_with(word));
    if begins(&["<!doctype html", "<html"]) || begins(&["<?xml"]) && text.contains("<html") {
        return Some(HTML);
    }
    if begins(&["<?xml"]) && text.contains("<net ") {
        return Some(kind("an OpenVINO model", FROM_SOURCE));
    }
    if begins(&["<?xml", "<error"]) {
        return Some(kind("XML text, as servers answer with", "download the file itself"));
    }
    if begins(&["{", "["]) && text.contains("modeltopology") {
        return Some(kind("a TensorFlow.js model", "convert the model that it was made from with tf2onnx"));
    }
    begins(&["{\"", "{\n", "{\r", "{ "]).then(|| kind("JSON text", "name the .onnx file"))
}

/// Returns the message for a file of another format given as a model, if recognized.
pub(super) fn refusal(path: &Path, bytes: &[u8]) -> Option<Error> {
    let Foreign { what, advice } = kind_of(bytes)?;
    Some(Error::malformed(path.display().to_string(), format!("is {what}, not an ONNX file; {advice}")))
}

/// Returns the message for a folder given as a model.
pub(super) fn folder(path: &Path) -> String {
    let entries = std::fs::read_dir(path).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.file_name()));
    let mut names: Vec<String> = entries.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    let has = |ending: &str| names.iter().any(|name| name.ends_with(ending));
    let models: Vec<&str> = names.iter().filter(|name| name.ends_with(".onnx")).map(String::as_str).collect();
    match models.as_slice() {
        [] if has("saved_model.pb") => format!("is the directory of {}; {}", SAVED_MODEL.what, SAVED_MODEL.advice),
        [] if has(".safetensors") || has("pytorch_model.bin") => {
            "is a directory of weights; export the model with optimum-cli export onnx --model DIRECTORY OUTPUT"
                .to_owned()
        }
        [] => "is a directory without an .onnx file; name a model file".to_owned(),
        [one] => format!("is a directory; name the model file in it: {one}"),
        several => format!("is a directory; name one of the model files in it: {}", several.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write};

    use super::*;

    fn zip(members: &[&str]) -> Vec<u8> {
        let mut file = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for member in members {
            file.start_file(*member, zip::write::SimpleFileOptions::default()).unwrap();
            file.write_all(b"content").unwrap();
        }
        file.finish().unwrap().into_inner()
    }

    fn padded(parts: &[&[u8]]) -> Vec<u8> {
        let mut bytes = parts.concat();
        bytes.resize(bytes.len().max(600), 0);
        bytes
    }

    #[test]
    fn files_are_told_by_their_first_bytes_and_a_converter_is_named() {
        let safetensors = [&16u64.to_le_bytes()[..], b"{\"w\":{}}        ", &[0; 64]].concat();
        let tar = [&[b'm'; 257][..], b"ustar\0", &[0; 300]].concat();
        let cases: &[(&str, Vec<u8>, &[&str])] = &[
            ("empty", Vec::new(), &["empty"]),
            ("PyTorch zip", zip(&["archive/data.pkl", "archive/data/0"]), &["PyTorch", "torch.onnx.export"]),
            ("PyTorch pickle", padded(&[b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."]), &["PyTorch"]),
            ("Keras 3", zip(&["metadata.json", "model.weights.h5"]), &["Keras", "format=\"onnx\""]),
            ("HDF5", padded(&[b"\x89HDF\r\n\x1a\n"]), &["Keras", "tf2onnx", "--keras"]),
            ("TensorFlow Lite", padded(&[b"\x1c\0\0\0TFL3"]), &["TensorFlow Lite", "--tflite"]),
            ("frozen graph", padded(&[b"\x0a\x1b\x0a\x01x\x12\x0bPlaceholder"]), &["TensorFlow", "--graphdef"]),
            ("SavedModel", padded(&[b"\x08\x01\x12\xff\x01\x0aStatefulPartitionedCall"]), &["--saved-model"]),
            ("PaddlePaddle", padded(&[b"\x0a\xff\x01\x08\0 op_callstack"]), &["paddle2onnx"]),
            ("Core ML", padded(&[b"\x08\x05\x12\x30 coremltools"]), &["Core ML"]),
            ("safetensors", safetensors, &["safetensors", "optimum-cli"]),
            ("GGUF", padded(&[b"GGUF\x03"]), &["GGUF"]),
            (".ort", padded(&[b"\x18\0\0\0ORTM"]), &["ONNX Runtime's own format"]),
            ("LFS", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n".to_vec(), &["git lfs pull"]),
            ("HTML", b"\n<!DOCTYPE html>\n<html>".to_vec(), &["web page", "raw"]),
            ("XHTML", b"\xef\xbb\xbf<?xml version=\"1.0\"?><html>".to_vec(), &["web page"]),
            ("OpenVINO", b"<?xml version=\"1.0\"?>\n<net name=\"m\" version=\"11\">".to_vec(), &["OpenVINO"]),
            ("a server's answer", b"<?xml version=\"1.0\"?><Error><Code>NoSuchKey".to_vec(), &["XML"]),
            ("JSON", b"{\"error\": \"not found\"}".to_vec(), &["JSON"]),
            ("TensorFlow.js", b"{\"format\":\"layers-model\",\"modelTopology\":{}}".to_vec(), &["TensorFlow.js"]),
            ("gzip", padded(&[b"\x1f\x8b\x08"]), &["gzip", "unpack"]),
            ("tar", tar, &["tar", "unpack"]),
            ("zipped model", zip(&["net/model.onnx"]), &["zip archive", "unpack"]),
            ("arrays", zip(&["images.npy", "labels.npy"]), &["NumPy", "--data"]),
            ("photograph", padded(&[b"\xff\xd8\xff\xe0"]), &["image"]),
        ];
        let mut wrong = Vec::new();
        for (name, bytes, says) in cases {
            let found = refusal(Path::new("m"), bytes).map(|error| error.to_string()).unwrap_or_default();
            if !says.iter().all(|text| found.contains(text)) {
                wrong.push(format!("{name}: \"{found}\" lacks one of {says:?}"));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
        assert_eq!(kind_of(b"# a read-me\n"), None, "text in general");
    }

    #[test]
    fn a_folder_tells_what_to_name_in_it() {
        let cases: &[(&[&str], &str)] = &[
            (&[], "without an .onnx file"),
            (&["a.onnx"], "in it: a.onnx"),
            (&["b.onnx", "a.onnx", "c.txt"], "one of the model files in it: a.onnx, b.onnx"),
            (&["saved_model.pb"], "--saved-model"),
            (&["model.safetensors", "config.json"], "optimum-cli"),
        ];
        let wrong: Vec<String> = cases
            .iter()
            .filter_map(|(names, says)| {
                let made = tempfile::tempdir().unwrap();
                names.iter().for_each(|name| std::fs::write(made.path().join(name), "").unwrap());
                let found = folder(made.path());
                (!found.contains(says)).then(|| format!("{names:?}: {found}"))
            })
            .collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}
