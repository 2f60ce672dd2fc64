//! `Select` and its gradient against their formulas.

use dfq_onnx::ir::{Attr, Attrs, DType, Graph, Tensor};

use super::{normal, run, run_alike, single, to_blocks};

/// The shape of x, rows and columns.
type Case = (&'static str, [usize; 4], &'static [i64], &'static [i64]);

const CASES: &[Case] = &[
    ("everything", [2, 16, 3, 4], &[0, 1, 2], &[0, 1, 2, 3]),
    ("a crop, flipped", [3, 5, 6, 7], &[2, 3, 4, 5], &[5, 4, 3]),
    ("reflected shifts", [1, 20, 4, 5], &[2, 1, 0, 1], &[1, 2, 3, 4, 3]),
    ("more than there is", [2, 8, 2, 1], &[0, 1, 1, 0, 0], &[0, 0, 0]),
    ("one pixel", [4, 33, 9, 9], &[8], &[0]),
    ("no row", [2, 8, 3, 3], &[], &[1, 2]),
    ("no column", [2, 8, 3, 3], &[1, 2], &[]),
    ("many planes", [30, 40, 15, 15], &[14, 0, 7], &[1, 1, 2, 3, 5, 8, 13]),
];

fn laid(tensor: &Tensor, block: usize) -> Tensor {
    if block == 1 { tensor.clone() } else { to_blocks(tensor, block) }
}

fn indices(values: &[i64]) -> Tensor {
    Tensor::from_i64(&[values.len()], values)
}

/// Returns a graph of one operator on `shape`, rows and columns.
fn graph(op_type: &str, shape: &[usize], rows: &[i64], columns: &[i64], attrs: Attrs) -> Graph {
    let mut graph = single(op_type, &[shape, &[rows.len()], &[columns.len()]], 1, attrs);
    for i in [1, 2] {
        let id = graph.inputs[i];
        graph.value_mut(id).dtype = Some(DType::I64);
    }
    graph
}

fn attrs(height: usize, width: usize, block: usize) -> Attrs {
    let number = |n: usize| Attr::Int(i64::try_from(n).unwrap());
    Attrs::from([("height", number(height)), ("width", number(width)), ("block", number(block))])
}

/// Returns what is chosen of x, and what comes back of dy.
fn expected((_, shape, rows, columns): Case, x: &Tensor, dy: &Tensor) -> [Tensor; 2] {
    let [n, c, h, w] = shape;
    let (from, back) = (x.to_f32().unwrap(), dy.to_f32().unwrap());
    let (mut y, mut dx) = (Vec::new(), vec![0.0; from.len()]);
    for plane in 0..n * c {
        for row in rows {
            for column in columns {
                let at = plane * h * w + usize::try_from(row * i64::try_from(w).unwrap() + column).unwrap();
                dx[at] += back[y.len()];
                y.push(from[at]);
            }
        }
    }
    [Tensor::from_f32(dy.shape(), &y), Tensor::from_f32(&shape, &dx)]
}

#[test]
fn pixels_are_chosen_and_their_gradients_come_back() {
    let mut failed = Vec::new();
    for &case in CASES {
        let (name, shape, rows, columns) = case;
        let (x, dy) = (normal(&shape, 1), normal(&[shape[0], shape[1], rows.len(), columns.len()], 2));
        let [y, dx] = expected(case, &x, &dy);
        for block in [1, 8, 16] {
            let [x, dy, y, dx] = [&x, &dy, &y, &dx].map(|tensor| laid(tensor, block));
            let attrs = attrs(shape[2], shape[3], block);
            let forward = graph("Select", x.shape(), rows, columns, attrs.clone());
            let backward = graph("SelectGradient", dy.shape(), rows, columns, attrs);
            for (graph, input, expected) in [(forward, x, y), (backward, dy, dx)] {
                match run_alike(&graph, &[input, indices(rows), indices(columns)]) {
                    Ok(found) if found[0].shape() == expected.shape() && found[0].bytes() == expected.bytes() => {}
                    found => failed.push(format!("{name}, blocks of {block}: {:?}", found.err())),
                }
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn indices_outside_of_the_image_are_refused() {
    let mut failed = Vec::new();
    for (name, rows, columns, word) in [
        ("a row behind the last", [0, 4], [0, 4], "row 4"),
        ("a row before the first", [-1, 0], [0, 4], "row -1"),
        ("a column behind the last", [0, 3], [5, 0], "column 5"),
        ("a column before the first", [0, 3], [0, i64::MIN], "column -"),
    ] {
        for (op_type, shape) in [("Select", [2, 3, 4, 5]), ("SelectGradient", [2, 3, 2, 2])] {
            let graph = graph(op_type, &shape, &rows, &columns, attrs(4, 5, 1));
            match run(&graph, &[normal(&shape, 1), indices(&rows), indices(&columns)], 1) {
                Err(message) if message.contains(word) => {}
                found => failed.push(format!("{name}, {op_type}: {found:?}")),
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
