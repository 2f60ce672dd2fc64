//! Checkpoint files: what goes in comes out, the same bytes every time, and nothing damaged or foreign gets through.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use dfq_onnx::Error;
use dfq_onnx::digest::sha256;
use dfq_onnx::ir::{DType, Tensor};
use dfq_onnx::train::{About, Checkpoint, Identity, fingerprint};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn identity() -> Identity {
    let settings = fingerprint(&("w4a4", 400));
    Identity { stage: "distil".to_owned(), seed: u64::MAX, model: sha256([&b"model"[..]]), settings }
}

fn checkpoint() -> Checkpoint {
    let bytes = |dtype, shape: &[usize], n| Tensor::new(dtype, shape.to_vec(), Bytes::from(vec![0x3c; n])).unwrap();
    let special = [f32::NEG_INFINITY, -0.0, f32::MIN_POSITIVE / 2.0, 1.0e-7];
    let tensors = [
        ("student", Tensor::from_f32(&[2, 2], &special)),
        ("not a number", Tensor::new(DType::F32, vec![1], Bytes::from_static(&[1, 0, 0xc0, 0x7f])).unwrap()),
        ("rank 0", Tensor::from_f32(&[], &[0.1])),
        ("empty", Tensor::from_f32(&[0], &[])),
        ("empty matrix", Tensor::from_f32(&[3, 0, 2], &[])),
        ("labels", Tensor::from_i64(&[2], &[i64::MIN, 7])),
        ("images", bytes(DType::U8, &[1, 5], 5)),
        ("halves", bytes(DType::F16, &[3], 6)),
        ("flags \"quoted\" \u{e9}", bytes(DType::Bool, &[1], 1)),
        ("f8", bytes(DType::F8E4M3FN, &[2], 2)),
    ];
    let mut about = About::new(identity(), 120);
    about.notes.insert("schedule".to_owned(), r#"{"best":0.5,"waited":3,"reductions":1}"#.to_owned());
    about.notes.insert("layout".to_owned(), "[]".to_owned());
    Checkpoint { tensors: tensors.map(|(name, tensor)| (name.to_owned(), tensor)).into(), about }
}

fn written(checkpoint: &Checkpoint, folder: &Path) -> (PathBuf, Vec<u8>) {
    let path = folder.join("distil.safetensors");
    checkpoint.write(&path).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    (path, bytes)
}

#[test]
fn contents_come_back_and_lie_aligned_where_other_readers_look() {
    let folder = tempfile::tempdir().unwrap();
    let nothing = Checkpoint { tensors: BTreeMap::new(), about: About::new(identity(), 0) };
    for checkpoint in [checkpoint(), nothing] {
        let (path, bytes) = written(&checkpoint, folder.path());
        assert_eq!(Checkpoint::read(&path).unwrap(), checkpoint);
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(file.len(), checkpoint.tensors.len());
        for (name, view) in file.iter() {
            let expected = &checkpoint.tensors[name];
            assert_eq!((view.data(), view.shape()), (&expected.bytes()[..], expected.shape()), "{name}");
            let offset = view.data().as_ptr().addr() - bytes.as_ptr().addr();
            assert_eq!(offset % (expected.dtype().bits() / 8), 0, "{name} lies at byte {offset}");
        }
    }
}

#[test]
fn the_same_contents_are_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let (_, first) = written(&checkpoint(), folder.path());
    for _ in 0..20 {
        assert!(written(&checkpoint(), folder.path()).1 == first, "the bytes differ");
    }
    let names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["distil.safetensors"]);
}

/// Says how a damaged file passes: with other contents.
fn passes(path: &Path, bytes: &[u8], good: &Checkpoint) -> Option<String> {
    std::fs::write(path, bytes).unwrap();
    match Checkpoint::read(path) {
        Ok(found) => (found != *good).then(|| "other contents".to_owned()),
        Err(Error::Malformed { place, .. }) if place == path.display().to_string() => None,
        Err(Error::Unsupported { place, .. }) if place == path.display().to_string() => None,
        Err(e) => Some(format!("{e:?}")),
    }
}

#[test]
fn damage_is_found_wherever_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let good = checkpoint();
    let (path, bytes) = written(&good, folder.path());
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let mut failed = Vec::new();
    for i in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[i] ^= 1 << rng.random_range(0..8);
        failed.extend(passes(&path, &damaged, &good).map(|how| format!("byte {i} of {}: {how}", bytes.len())));
    }
    for _ in 0..300 {
        let n = rng.random_range(0..bytes.len());
        failed.extend(passes(&path, &bytes[..n], &good).map(|how| format!("the first {n} bytes: {how}")));
    }
    assert!(failed.is_empty(), "{failed:#?}");
    let payload = bytes.len() - good.tensors.values().map(|t| t.bytes().len()).sum::<usize>();
    for i in payload..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[i] ^= 1;
        std::fs::write(&path, &damaged).unwrap();
        let error = Checkpoint::read(&path).unwrap_err().to_string();
        assert!(error.contains("do not match their checksum"), "byte {i}: {error}");
    }
}

#[test]
fn foreign_files_are_refused_by_name_with_their_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("distil.safetensors");
    let (_, good) = written(&checkpoint(), folder.path());
    let plain: BTreeMap<&str, safetensors::tensor::TensorView> = BTreeMap::new();
    let foreign = |key: &str, text: &str| {
        safetensors::serialize(&plain, Some([(key.to_owned(), text.to_owned())].into())).unwrap()
    };
    let newer = r#"{"about":{"format":9,"tool":"9.0.0","more":1},"sums":[]}"#;
    let huge = [&u64::MAX.to_le_bytes()[..], &good[8..]].concat();
    let cases: [(&str, Option<Vec<u8>>, &str, u8); 8] = [
        ("no file", None, "cannot read", 3),
        ("an empty file", Some(Vec::new()), "is no intact checkpoint", 3),
        ("text", Some(b"{\"seed\": 7} and more".to_vec()), "is no intact checkpoint", 3),
        ("a header beyond memory", Some(huge), "is no intact checkpoint", 3),
        ("more behind the end", Some([&good[..], b"tail"].concat()), "is no intact checkpoint", 3),
        ("weights of another tool", Some(foreign("format", "pt")), "does not say of which run", 3),
        ("half a description", Some(foreign("dfq-onnx", r#"{"about":{}}"#)), "missing field", 3),
        ("a newer format", Some(foreign("dfq-onnx", newer)), "has format 9 of dfq-onnx 9.0.0, expected 2", 3),
    ];
    let mut failed = Vec::new();
    for (name, bytes, expected, code) in cases {
        std::fs::remove_file(&path).ok();
        bytes.iter().for_each(|bytes| std::fs::write(&path, bytes).unwrap());
        let error = Checkpoint::read(&path).unwrap_err();
        let text = error.to_string();
        if !text.contains(expected) || !text.contains(&*path.to_string_lossy()) || error.exit_code() != code {
            failed.push(format!("{name}: {text} (exit {})", error.exit_code()));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn says_what_another_run_did_otherwise() {
    let (found, path) = (checkpoint(), Path::new("run/distil.safetensors"));
    found.check(path, &identity()).unwrap();
    let with = |change: fn(&mut Identity)| {
        let mut expected = identity();
        change(&mut expected);
        expected
    };
    let cases = [
        ("stage", with(|i| i.stage = "synthesise".to_owned()), vec!["its stage is distil, expected synthesise"]),
        (
            "model",
            with(|i| i.model = sha256([&b"x"[..]])),
            vec!["its model has the sha256 9372c470eead, expected 2d711642b726"],
        ),
        ("seed", with(|i| i.seed = 1), vec!["its seed is 18446744073709551615, expected 1"]),
        ("settings", with(|i| i.settings = fingerprint(&0)), vec!["its settings have the fingerprint"]),
        ("two", with(|i| (i.seed, i.stage) = (2, "plan".to_owned())), vec!["expected plan; ", "expected 2; "]),
    ];
    let mut failed = Vec::new();
    for (name, expected, texts) in cases {
        let error = found.check(path, &expected).unwrap_err();
        let text = error.to_string();
        let named = text.starts_with("run/distil.safetensors belongs to another run: ");
        if !named
            || !texts.iter().all(|t| text.contains(t))
            || text.matches("expected").count() != texts.len()
            || error.exit_code() != 2
        {
            failed.push(format!("{name}: {text}"));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn what_cannot_be_written_leaves_the_old_file() {
    let folder = tempfile::tempdir().unwrap();
    let (path, old) = written(&checkpoint(), folder.path());
    let with = |name: &str, tensor: Tensor| {
        let mut checkpoint = checkpoint();
        checkpoint.tensors.insert(name.to_owned(), tensor);
        checkpoint
    };
    let packed = with("packed", Tensor::from_ints(DType::I4, &[2], &[1, 2]).unwrap());
    let reserved = with("__metadata__", Tensor::from_f32(&[], &[1.0]));
    let cases = [
        ("4-bit integers", packed.write(&path), 3),
        ("the name of the metadata", reserved.write(&path), 3),
        ("a folder that is not there", checkpoint().write(&folder.path().join("none/x")), 5),
        ("a folder in the way", checkpoint().write(folder.path()), 5),
    ];
    let wrong: Vec<_> =
        cases.iter().filter(|(_, r, code)| r.as_ref().err().map(Error::exit_code) != Some(*code)).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    assert!(std::fs::read(&path).unwrap() == old);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "something was left behind");
}
