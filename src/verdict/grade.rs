//! Thresholds that turn figures into a verdict.

use super::{Inputs, Judgement, Response, Verdict, VerdictSource};

/// A figure in dB: `broken` below the first, `good` from the second on.
struct Limits {
    broken: f64,
    good: f64,
}

/// Class scores on synthetic images of strong contrast. Of 144 measured cases on 11 networks all that lose more than 16
/// points lie below the first limit, and none that loses less than 1; none above the second loses more than 2.
const SYNTHETIC: Limits = Limits { broken: 1.25, good: 8.0 };
/// Class scores on inputs of the network's domain.
const DATA: Limits = Limits { broken: 6.0, good: 12.0 };
/// Other outputs (boxes, masks, embeddings, states), which lose more at the same noise than the top class.
const OTHER_OUTPUTS: Limits = Limits { broken: 3.0, good: 18.0 };
/// The plain SQNR in dB from which such an output is never `broken`, even if the float output hardly varies: an error
/// of a third of its size.
const CLOSE: f64 = 10.0;
/// The top-1 agreement on inputs of the network's domain from which nothing is `broken`: of the measured cases on real
/// images, none that loses more than 10 points reaches 0.9.
const AGREEING: f64 = 0.92;
/// The limit for `broken` where inputs are a guess, and so the figures on them.
const GUESSED: Limits = Limits { broken: -3.0, good: f64::INFINITY };
/// The drop of top-1 in points from which the verdict is `broken`, and the upper end of the confidence interval up to
/// which it is `good`.
const BROKEN_POINTS: f64 = 5.0;
const GOOD_POINTS: f64 = 3.0;
/// The fewest user inputs for `good`.
const FEWEST: usize = 4;
/// Two-sided 95 % of a normal distribution.
const DEVIATIONS: f64 = 1.96;

/// Two models on the same labeled inputs.
#[derive(Clone, Copy, Debug)]
pub struct Labels {
    /// Inputs.
    pub images: usize,
    /// Inputs that only the float model classifies correctly.
    pub lost: usize,
    /// Inputs that only the quantized model classifies correctly.
    pub gained: usize,
}

impl Labels {
    /// Returns the drop of top-1 in points, and the ends of its 95 % confidence interval for paired samples (Agresti
    /// and Min 2005: half a sample is added to each of the four counts).
    pub fn drop(&self) -> [f64; 3] {
        let (n, lost, gained) = (self.images.max(1) as f64, self.lost as f64, self.gained as f64);
        let (wide, difference) = (n + 2.0, lost - gained);
        let variance = ((lost + gained + 1.0) - difference * difference / wide).max(0.0);
        let reach = DEVIATIONS * variance.sqrt() / wide;
        [difference / n, difference / wide - reach, difference / wide + reach].map(|share| 100.0 * share)
    }
}

/// Returns the verdict by labels.
pub fn grade(labels: &Labels) -> Judgement {
    let [drop, lowest, highest] = labels.drop();
    let verdict = match () {
        () if lowest > BROKEN_POINTS => Verdict::Broken,
        () if highest <= GOOD_POINTS => Verdict::Good,
        () => Verdict::Doubtful,
    };
    Judgement {
        verdict,
        source: VerdictSource::Labels,
        samples: labels.images,
        reason: format!(
            "top-1 drops by {drop:.2} points on {} labeled inputs (95 % confidence: {lowest:.2} to {highest:.2})",
            labels.images
        ),
        drop: Some([drop, lowest, highest]),
        outputs: Vec::new(),
        next: String::new(),
    }
}

/// Returns the verdict by responses: that of the worst output.
pub(super) fn by_responses(outputs: Vec<Response>, samples: usize, inputs: &Inputs) -> Judgement {
    let graded = |response: &Response| Some((of_output(response, inputs)?, response.clone()));
    let worst =
        outputs.iter().filter_map(graded).min_by(|(a, x), (b, y)| a.cmp(b).then(figure(x).total_cmp(&figure(y))));
    let kind = match inputs.source {
        VerdictSource::Data => "inputs of the data given",
        _ if inputs.is_guess => "synthetic inputs whose kind or range is a guess",
        _ => "synthetic inputs",
    };
    let is_few = inputs.source == VerdictSource::Data && samples < FEWEST;
    let (verdict, reason) = match worst {
        Some((Verdict::Good, response)) if is_few => {
            (Verdict::Doubtful, format!("{} on {samples} {kind}, too few to be sure", in_words(&response)))
        }
        None => (Verdict::Doubtful, format!("no output varies on {samples} {kind}")),
        Some((verdict, response)) => (verdict, format!("{} on {samples} {kind}", in_words(&response))),
    };
    Judgement { verdict, source: inputs.source, samples, reason, drop: None, outputs, next: String::new() }
}

fn figure(response: &Response) -> f64 {
    response.centered_sqnr_db.unwrap_or(f64::INFINITY)
}

fn of_output(response: &Response, inputs: &Inputs) -> Option<Verdict> {
    let figure = response.centered_sqnr_db?;
    let limits = match (inputs.source, response.is_scores) {
        _ if inputs.is_guess => GUESSED,
        (VerdictSource::Data, true) => DATA,
        (_, true) => SYNTHETIC,
        (_, false) => OTHER_OUTPUTS,
    };
    let is_close = match (response.is_scores, inputs.source) {
        // Boxes in pixels hardly vary beside their anchors, and small errors of theirs are no ruin.
        (false, _) => response.sqnr_db.is_some_and(|plain| plain >= CLOSE),
        (true, VerdictSource::Data) => response.agreement.is_some_and(|agreement| agreement >= AGREEING),
        (true, _) => false,
    };
    Some(match () {
        () if figure < limits.broken && !is_close => Verdict::Broken,
        () if figure < limits.good => Verdict::Doubtful,
        () => Verdict::Good,
    })
}

fn in_words(response: &Response) -> String {
    let agreement = match response.agreement {
        Some(share) => format!(", the same class on {:.1} %", 100.0 * share),
        None => String::new(),
    };
    let figure = figure(response);
    format!("\"{}\" has a centered SQNR of {figure:.1} dB{agreement}", response.output)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(images: usize, lost: usize, gained: usize) -> Verdict {
        grade(&Labels { images, lost, gained }).verdict
    }

    #[test]
    fn labels_decide_by_the_ends_of_their_confidence_interval() {
        let cases = [
            ("nothing lost of many", of(1000, 3, 2), Verdict::Good),
            ("nothing lost of few", of(10, 0, 0), Verdict::Doubtful),
            ("two points of many", of(5000, 150, 50), Verdict::Good),
            ("four points", of(1000, 50, 10), Verdict::Doubtful),
            ("ten points", of(1000, 120, 20), Verdict::Broken),
            ("all of a few", of(10, 9, 0), Verdict::Broken),
            ("better than before", of(300, 2, 12), Verdict::Good),
        ];
        let wrong: Vec<_> = cases.iter().filter(|(_, found, expected)| found != expected).collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }

    #[test]
    fn the_worst_output_decides_and_a_guess_is_never_good() {
        let response = |db, is_scores| Response {
            output: "y".to_owned(),
            centered_sqnr_db: db,
            sqnr_db: db,
            agreement: None,
            is_scores,
        };
        let of = |outputs: &[Response], source, is_guess| {
            let inputs = Inputs { tensors: Vec::new(), source, is_guess };
            by_responses(outputs.to_vec(), 64, &inputs).verdict
        };
        let (synthetic, data) = (VerdictSource::Synthetic, VerdictSource::Data);
        let cases = [
            ("scores", of(&[response(Some(9.0), true)], synthetic, false), Verdict::Good),
            ("scores on data", of(&[response(Some(9.0), true)], data, false), Verdict::Doubtful),
            ("boxes", of(&[response(Some(9.0), false)], synthetic, false), Verdict::Doubtful),
            ("one of two", of(&[response(Some(40.0), true), response(Some(0.0), false)], data, false), Verdict::Broken),
            (
                "boxes that hardly vary",
                of(&[Response { sqnr_db: Some(30.0), ..response(Some(0.0), false) }], synthetic, false),
                Verdict::Doubtful,
            ),
            (
                "few inputs with equal classes",
                of(&[Response { agreement: Some(1.0), ..response(Some(4.0), true) }], data, false),
                Verdict::Doubtful,
            ),
            ("a guess", of(&[response(Some(40.0), true)], synthetic, true), Verdict::Doubtful),
            ("ruin on a guess", of(&[response(Some(-20.0), true)], synthetic, true), Verdict::Broken),
            ("no signal", of(&[response(None, true)], synthetic, false), Verdict::Doubtful),
        ];
        let wrong: Vec<_> = cases.iter().filter(|(_, found, expected)| found != expected).collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }
}
