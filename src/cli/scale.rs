//! What is known of the scale of a model's inputs, against which images are held that it is run on.

use super::preprocess::InputArguments;
use super::say;
use crate::data::{Feeds, refuse_other_scale};
use crate::error::Result;
use crate::ir::{Graph, ValueId};
use crate::stats::{InputSource, InputStatistics, guess_input, read_batch_norms};
use crate::verify::find_quantizers;

/// Refuses images of another scale than the known one of `graph`'s input, and warns where the scale may differ.
///
/// # Errors
/// Those of [`refuse_other_scale`], and of flags that contradict each other.
pub(super) fn check_scale(feeds: &Feeds, graph: &Graph, arguments: &InputArguments) -> Result<()> {
    let (fed, is_sure) = known_scale(graph, arguments);
    if let Some(warning) = refuse_other_scale(feeds, &fed, is_sure, &arguments.preprocess()?)? {
        say(&format!("warning: {warning}"));
    }
    Ok(())
}

/// Returns the input statistics of `graph` and whether they are certain: from the user, the first layer's statistics,
/// the input's quantizer, or an assumption, in this order.
fn known_scale(graph: &Graph, arguments: &InputArguments) -> (InputStatistics, bool) {
    if let Some(interval) = arguments.interval() {
        return (interval, true);
    }
    let guess = guess_input(graph, &read_batch_norms(graph));
    match (guess.source, input_grid(graph)) {
        (InputSource::Assumed, Some((lo, hi))) => (InputStatistics::of_interval(lo, hi), false),
        (source, _) => (guess, source != InputSource::Assumed),
    }
}

/// Returns the interval of an input's quantizer.
fn input_grid(graph: &Graph) -> Option<(f64, f64)> {
    let fed = graph.fed_inputs();
    let source = |id: ValueId| {
        let cast = graph.nodes.iter().find(|node| node.is("Cast") && node.output(0) == Some(id));
        cast.and_then(|node| node.input(0)).unwrap_or(id)
    };
    let quantizers = find_quantizers(graph).quantizers;
    let grid = quantizers.iter().find(|quantizer| fed.contains(&source(quantizer.input)))?.grid.as_ref()?;
    let (&scale, &zero) = (grid.scale.first()?, grid.zero_point.first()?);
    let end = |integer: i64| (integer - zero) as f64 * f64::from(scale);
    Some((end(grid.low), end(grid.high))).filter(|(lo, hi)| lo < hi)
}
