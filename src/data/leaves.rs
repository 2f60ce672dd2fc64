//! Dead leaves: discs and rectangles of random size and color that cover one another, which gives images the sharp
//! edges and flat areas of photographs (Lee, Mumford and Huang 2001, "Occlusion Models for Natural Images").

use rand_chacha::ChaCha8Rng;

use super::smooth::uniform;

/// Smallest radius in pixels, and largest one as a share of the shorter side. Radii follow a power law of exponent -3,
/// which makes the statistics of images the same at every scale.
const RADII: (f32, f32) = (1.5, 0.5);
/// Leaves that cover each pixel on average.
const LAYERS: f32 = 3.0;

/// One leaf: its position and rotation; a rectangle if it has an aspect, else a disc.
pub(super) struct Leaf {
    centre: [f32; 2],
    radius: f32,
    turn: [f32; 2],
    aspect: Option<f32>,
}

impl Leaf {
    fn of(radius: f32, h: f32, w: f32, rng: &mut ChaCha8Rng) -> Self {
        let angle = std::f64::consts::TAU * f64::from(uniform(rng));
        let turn = [libm::cos(angle) as f32, libm::sin(angle) as f32];
        let centre = [uniform(rng) * h, uniform(rng) * w];
        let aspect = (uniform(rng) < 0.5).then(|| 0.2 + 0.8 * uniform(rng));
        Self { centre, radius, turn, aspect }
    }

    fn covers(&self, y: f32, x: f32) -> bool {
        let (dy, dx) = (y - self.centre[0], x - self.centre[1]);
        match self.aspect {
            None => dy * dy + dx * dx <= self.radius * self.radius,
            Some(aspect) => {
                let along = dy * self.turn[0] + dx * self.turn[1];
                let across = dx * self.turn[0] - dy * self.turn[1];
                along.abs() <= self.radius && across.abs() <= self.radius * aspect
            }
        }
    }
}

/// Returns leaves that cover `h` x `w` pixels, each with a color from `colour` (one value per channel).
pub(super) fn draw_leaves(
    h: usize,
    w: usize,
    rng: &mut ChaCha8Rng,
    mut colour: impl FnMut(&mut ChaCha8Rng) -> Vec<f32>,
) -> Vec<(Leaf, Vec<f32>)> {
    let (high, wide) = (h as f32, w as f32);
    let (least, most) = (RADII.0, (RADII.1 * high.min(wide)).max(2.0 * RADII.0));
    let mut leaves = Vec::new();
    let mut painted = 0.0;
    while painted < LAYERS * high * wide {
        let u = uniform(rng);
        // The inverse of the distribution function of a density of r^-3 between both radii.
        let radius = 1.0 / ((1.0 - u) / (least * least) + u / (most * most)).sqrt();
        let leaf = Leaf::of(radius, high, wide, rng);
        painted += radius * radius * 3.0;
        leaves.push((leaf, colour(rng)));
    }
    leaves
}

/// Paints `leaves` over `planes` (one `h` x `w` plane a channel), the later over the earlier ones.
pub(super) fn paint_leaves(planes: &mut [Vec<f32>], h: usize, w: usize, leaves: &[(Leaf, Vec<f32>)]) {
    for (leaf, values) in leaves {
        let reach = leaf.radius * std::f32::consts::SQRT_2;
        let from = |centre: f32| (centre - reach).max(0.0) as usize;
        let to = |centre: f32, size: usize| ((centre + reach).max(0.0) as usize + 1).min(size);
        for y in from(leaf.centre[0])..to(leaf.centre[0], h) {
            for x in from(leaf.centre[1])..to(leaf.centre[1], w) {
                if leaf.covers(y as f32, x as f32) {
                    for (plane, &value) in planes.iter_mut().zip(values) {
                        plane[y * w + x] = value;
                    }
                }
            }
        }
    }
}
