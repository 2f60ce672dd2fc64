//! Curves of losses over steps, as an SVG file.

use std::ops::Range;

use plotters::prelude::*;

use crate::error::{Error, Result};

const SIZE: (u32, u32) = (800, 480);
/// Points of a curve at most; each is the mean of the steps that it stands for.
const POINTS: usize = 400;

/// A line of the picture.
#[derive(Clone, Debug)]
pub struct Curve {
    /// What it is called.
    pub name: String,
    /// One value a step.
    pub values: Vec<f32>,
}

/// Returns an SVG file with all `curves` on a logarithmic scale; values that are not above 0 are left out.
///
/// # Errors
/// Where there is nothing to draw.
pub fn curves(title: &str, curves: &[Curve]) -> Result<String> {
    let drawn: Vec<(&str, Vec<(f64, f64)>)> = curves.iter().map(|c| (c.name.as_str(), points(&c.values))).collect();
    let all = || drawn.iter().flat_map(|(_, points)| points.iter());
    let range = |value: fn(&(f64, f64)) -> f64| {
        all().map(value).fold((f64::INFINITY, 0.0f64), |(lo, hi), v| (lo.min(v), hi.max(v)))
    };
    let ((_, last), (low, high)) = (range(|p| p.0), range(|p| p.1));
    if high <= 0.0 {
        return Err(Error::malformed("curves of losses", "no loss is above 0, so that there is nothing to draw"));
    }
    let mut file = String::new();
    draw(&mut file, title, &drawn, 0.0..last.max(1.0), low * 0.8..high * 1.25)
        .map_err(|e| Error::malformed("curves of losses", e.to_string()))?;
    Ok(file)
}

type Line<'a> = (&'a str, Vec<(f64, f64)>);

fn draw(
    file: &mut String,
    title: &str,
    lines: &[Line],
    steps: Range<f64>,
    losses: Range<f64>,
) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let area = SVGBackend::with_string(file, SIZE).into_drawing_area();
    let failed = |e: &dyn std::fmt::Display| e.to_string();
    area.fill(&WHITE).map_err(|e| failed(&e))?;
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(32)
        .y_label_area_size(64)
        .build_cartesian_2d(steps, losses.log_scale())
        .map_err(|e| failed(&e))?;
    chart.configure_mesh().x_desc("step").y_desc("loss").draw().map_err(|e| failed(&e))?;
    for (i, (name, points)) in lines.iter().enumerate() {
        let colour = Palette99::pick(i).to_rgba();
        let line = LineSeries::new(points.iter().copied(), colour.stroke_width(2));
        chart
            .draw_series(line)
            .map_err(|e| failed(&e))?
            .label(*name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
    }
    chart.configure_series_labels().background_style(WHITE).border_style(BLACK).draw().map_err(|e| failed(&e))?;
    area.present().map_err(|e| failed(&e))?;
    Ok(())
}

fn points(values: &[f32]) -> Vec<(f64, f64)> {
    let each = values.len().div_ceil(POINTS).max(1);
    let mean = |(i, part): (usize, &[f32])| {
        let sum: f64 = part.iter().map(|&v| f64::from(v)).sum();
        ((i * each) as f64, sum / part.len() as f64)
    };
    values.chunks(each).enumerate().map(mean).filter(|(_, v)| v.is_finite() && *v > 0.0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_every_curve_by_name() {
        let curve = |name: &str, values: &[f32]| Curve { name: name.to_owned(), values: values.to_vec() };
        let svg = curves("losses", &[curve("first", &[4.0, 2.0, 1.0]), curve("second", &[-1.0, 0.5, 0.0])]).unwrap();
        assert!(svg.starts_with("<svg") && svg.contains("first") && svg.contains("second"), "{svg}");
        assert!(curves("nothing", &[curve("below", &[-1.0, 0.0])]).is_err());
    }
}
