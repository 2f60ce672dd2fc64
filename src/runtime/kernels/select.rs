//! Selects pixels at the crossings of rows and columns, and its gradient.

use std::sync::{Mutex, PoisonError};

use super::Spread;

/// Approximate elements in a piece of work.
const PIECE: usize = 1 << 14;

/// The selected pixels of images `[N, C, H, W]`, in blocked or plain layout.
#[derive(Clone, Debug)]
pub struct Selection {
    rows: Vec<usize>,
    columns: Vec<usize>,
    size: [usize; 2],
    /// Planes of all images and blocks of channels.
    planes: usize,
    block: usize,
}

impl Selection {
    /// Returns the selection of `rows` and `columns` from images of `shape`, in blocks of 8 or 16 channels, or of 1 in
    /// plain layout.
    ///
    /// # Errors
    /// For indices outside the image, and blocks that do not fit the channels.
    pub fn new(shape: &[usize], rows: &[i64], columns: &[i64], block: usize) -> Result<Self, String> {
        let &[n, channels, height, width] = shape else {
            return Err(format!("expected 4 axes, found the shape {shape:?}"));
        };
        if !matches!(block, 1 | 8 | 16) || !channels.is_multiple_of(block) {
            return Err(format!("expected blocks of 1, 8 or 16 channels, found {channels} channels and {block}"));
        }
        let inside = |name: &str, indices: &[i64], size: usize| -> Result<Vec<usize>, String> {
            let inside = |&i: &i64| usize::try_from(i).ok().filter(|&i| i < size);
            let outside = |i: &i64| format!("{name} {i} lies outside of an image of {height} rows, {width} columns");
            indices.iter().map(|i| inside(i).ok_or_else(|| outside(i))).collect()
        };
        Ok(Self {
            rows: inside("row", rows, height)?,
            columns: inside("column", columns, width)?,
            size: [height, width],
            planes: n * channels / block,
            block,
        })
    }

    /// Returns the elements in a plane of the images and of the selection.
    fn lengths(&self) -> [usize; 2] {
        [self.size[0] * self.size[1], self.rows.len() * self.columns.len()].map(|pixels| pixels * self.block)
    }

    fn check(&self, images: usize, chosen: usize) -> Result<(), String> {
        let (found, expected) = ([images, chosen], self.lengths().map(|len| len * self.planes));
        if found != expected {
            return Err(format!("expected images and what is chosen of {expected:?} elements, found {found:?}"));
        }
        Ok(())
    }
}

/// Writes the selected pixels of `x` to `y`.
///
/// # Errors
/// For tensors of other lengths than `selection` requires.
pub fn select(x: &[f32], selection: &Selection, y: &mut [f32], spread: Spread) -> Result<(), String> {
    selection.check(x.len(), y.len())?;
    let [x_len, y_len] = selection.lengths();
    let work = match selection.block {
        16 => chosen::<16>,
        8 => chosen::<8>,
        _ => chosen::<1>,
    };
    in_planes(y, y_len, spread, &|plane, y| work(selection, &x[plane * x_len..][..x_len], y));
    Ok(())
}

/// Writes the gradient to `dx`: each element of `dy` added to its pixel, zeros elsewhere.
///
/// # Errors
/// For tensors of other lengths than `selection` requires.
pub fn select_gradient(dy: &[f32], selection: &Selection, dx: &mut [f32], spread: Spread) -> Result<(), String> {
    selection.check(dx.len(), dy.len())?;
    let [dx_len, dy_len] = selection.lengths();
    let work = match selection.block {
        16 => returned::<16>,
        8 => returned::<8>,
        _ => returned::<1>,
    };
    in_planes(dx, dx_len, spread, &|plane, dx| work(selection, &dy[plane * dy_len..][..dy_len], dx));
    Ok(())
}

/// Applies `work` to every plane of `len` elements and its index.
fn in_planes(to: &mut [f32], len: usize, spread: Spread, work: &(dyn Fn(usize, &mut [f32]) + Sync)) {
    if to.is_empty() {
        return;
    }
    let planes = (PIECE / len).max(1);
    let pieces: Vec<Mutex<&mut [f32]>> = to.chunks_mut(planes * len).map(Mutex::new).collect();
    spread(pieces.len(), &|piece| {
        let mut to = pieces[piece].lock().unwrap_or_else(PoisonError::into_inner);
        to.chunks_mut(len).enumerate().for_each(|(i, to)| work(piece * planes + i, to));
    });
}

fn chosen<const BLOCK: usize>(selection: &Selection, x: &[f32], y: &mut [f32]) {
    let (x, y) = (x.as_chunks::<BLOCK>().0, y.as_chunks_mut::<BLOCK>().0);
    let Selection { rows, columns, size: [_, width], .. } = selection;
    for (row, y) in rows.iter().zip(y.chunks_mut(columns.len().max(1))) {
        let x = &x[row * width..][..*width];
        columns.iter().zip(y).for_each(|(column, y)| *y = x[*column]);
    }
}

fn returned<const BLOCK: usize>(selection: &Selection, dy: &[f32], dx: &mut [f32]) {
    dx.fill(0.0);
    let (dy, dx) = (dy.as_chunks::<BLOCK>().0, dx.as_chunks_mut::<BLOCK>().0);
    let Selection { rows, columns, size: [_, width], .. } = selection;
    for (row, dy) in rows.iter().zip(dy.chunks(columns.len().max(1))) {
        let dx = &mut dx[row * width..][..*width];
        for (column, dy) in columns.iter().zip(dy) {
            dx[*column].iter_mut().zip(dy).for_each(|(dx, dy)| *dx += dy);
        }
    }
}
