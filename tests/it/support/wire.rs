//! Protobuf bytes written by hand, for files that no writer of ours would make. Appended to an encoded message, a
//! field is merged into it: `model ++ part_of_graph(NODE, ..)` is the model with one more node.

/// Fields of `GraphProto`.
pub const NODE: u64 = 1;
pub const INITIALIZER: u64 = 5;
pub const INPUT: u64 = 11;
pub const OUTPUT: u64 = 12;
pub const SPARSE_INITIALIZER: u64 = 15;

/// Returns a field of bytes, text or a message.
pub fn bytes(field: u64, contents: impl AsRef<[u8]>) -> Vec<u8> {
    let contents = contents.as_ref();
    let mut out = raw_varint(field << 3 | 2);
    out.extend(raw_varint(u64::try_from(contents.len()).unwrap()));
    out.extend(contents);
    out
}

/// Returns a field of an integer.
pub fn int(field: u64, value: i64) -> Vec<u8> {
    let mut out = raw_varint(field << 3);
    out.extend(raw_varint(value.cast_unsigned()));
    out
}

/// Returns one part of a model's graph, to be appended to the model.
pub fn part_of_graph(field: u64, contents: Vec<u8>) -> Vec<u8> {
    bytes(7, bytes(field, contents))
}

/// Returns a model function, to be appended to the model.
pub fn function(name: &str) -> Vec<u8> {
    bytes(25, bytes(1, name))
}

/// Returns a `TensorProto` without contents.
pub fn tensor(name: &str, data_type: i64, dims: &[i64]) -> Vec<u8> {
    let mut out: Vec<u8> = dims.iter().flat_map(|&d| int(1, d)).collect();
    out.extend(int(2, data_type));
    out.extend(bytes(8, name));
    out
}

/// Returns a float `TensorProto` whose contents lie in a file.
pub fn external(name: &str, dims: &[i64], entries: &[(&str, &str)]) -> Vec<u8> {
    let mut out = tensor(name, 1, dims);
    for (key, value) in entries {
        out.extend(bytes(13, [bytes(1, key), bytes(2, value)].concat()));
    }
    out.extend(int(14, 1));
    out
}

/// Returns a `NodeProto`.
pub fn node(name: &str, op: &str, inputs: &[&str], outputs: &[&str]) -> Vec<u8> {
    let mut out: Vec<u8> = inputs.iter().flat_map(|i| bytes(1, i)).collect();
    out.extend(outputs.iter().flat_map(|o| bytes(2, o)));
    out.extend(bytes(3, name));
    out.extend(bytes(4, op));
    out
}

/// Returns an `AttributeProto` of a node whose kind has the given code and whose value is `value`.
pub fn attribute(name: &str, kind: i64, value: Vec<u8>) -> Vec<u8> {
    bytes(5, [bytes(1, name), value, int(20, kind)].concat())
}

/// Returns a `ValueInfoProto` of a dense tensor.
pub fn value_info(name: &str, data_type: i64, dims: &[i64]) -> Vec<u8> {
    let dims: Vec<u8> = dims.iter().flat_map(|&d| bytes(1, int(1, d))).collect();
    let tensor = [int(1, data_type), bytes(2, dims)].concat();
    [bytes(1, name), bytes(2, bytes(1, tensor))].concat()
}

fn raw_varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let low = u8::try_from(value & 0x7f).unwrap();
        value >>= 7;
        if value == 0 {
            out.push(low);
            return out;
        }
        out.push(low | 0x80);
    }
}
