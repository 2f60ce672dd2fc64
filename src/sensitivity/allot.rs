//! The multiple-choice knapsack of bit allocation: one width per weight with the least total cost within a budget of
//! bits.

/// The most budget steps of the dynamic program. Budgets that divide into fewer steps (element counts
/// of layers have large common divisors) are solved exactly; others to within a step a weight, by rounding sizes up.
const STEPS: u64 = 1 << 16;

/// A weight that gets one of several widths.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// Its elements.
    pub elements: u64,
    /// Its cost at each width, in the order of the widths; cheaper ones first at the end.
    pub costs: Vec<f64>,
}

/// Returns for each weight the index of its width in `widths` (bits, ascending), such that the sum of `elements · bits`
/// is at most `budget` and the sum of costs is least; none where even the smallest widths exceed the budget.
///
/// A width never costs more than a narrower one: such measurements are noise.
pub fn allot(choices: &[Choice], widths: &[u32], budget: u64) -> Option<Vec<usize>> {
    let lowest = u64::from(*widths.first()?);
    let spare = budget.checked_sub(choices.iter().map(|c| c.elements * lowest).sum())?;
    let extra = |choice: &Choice, k: usize| choice.elements * (u64::from(widths[k]) - lowest);
    let costs: Vec<Vec<f64>> = choices.iter().map(|choice| falling(&choice.costs)).collect();
    let divisor = choices.iter().map(|c| c.elements).fold(0, gcd).max(1);
    let step = divisor.max(spare.div_ceil(STEPS));
    let capacity = usize::try_from(spare / step).expect("a budget has few steps");

    // best[s]: the least cost of the weights so far within s steps; picks[i][s]: the width that weight i has there.
    let mut best = vec![0.0; capacity + 1];
    let mut picks = Vec::with_capacity(choices.len());
    for (choice, costs) in choices.iter().zip(&costs) {
        let mut next = vec![f64::INFINITY; capacity + 1];
        let mut pick = vec![0u8; capacity + 1];
        for (k, cost) in costs.iter().enumerate() {
            let size = usize::try_from(extra(choice, k).div_ceil(step)).unwrap_or(usize::MAX);
            for s in size..=capacity {
                let total = best[s - size] + cost;
                if total < next[s] {
                    (next[s], pick[s]) = (total, u8::try_from(k).expect("widths are few"));
                }
            }
        }
        best = next;
        picks.push(pick);
    }
    let mut left = capacity;
    let mut chosen = vec![0; choices.len()];
    for (i, choice) in choices.iter().enumerate().rev() {
        chosen[i] = usize::from(picks[i][left]);
        left -= usize::try_from(extra(choice, chosen[i]).div_ceil(step)).expect("what was picked fits");
    }
    let used: u64 = choices.iter().zip(&chosen).map(|(choice, &k)| extra(choice, k)).sum();
    spend(choices, widths, &costs, &mut chosen, spare - used);
    Some(chosen)
}

/// Widens weights while budget remains, the largest gain per bit first; without gain the smallest step.
fn spend(choices: &[Choice], widths: &[u32], costs: &[Vec<f64>], chosen: &mut [usize], mut left: u64) {
    let step = |i: usize, k: usize| choices[i].elements * u64::from(widths[k + 1] - widths[k]);
    loop {
        let wider = (0..choices.len()).filter(|&i| chosen[i] + 1 < widths.len() && step(i, chosen[i]) <= left);
        let gain = |&i: &usize| (costs[i][chosen[i]] - costs[i][chosen[i] + 1]) / step(i, chosen[i]).max(1) as f64;
        let better = |a: &usize, b: &usize| {
            gain(a).total_cmp(&gain(b)).then(step(*b, chosen[*b]).cmp(&step(*a, chosen[*a]))).then(b.cmp(a))
        };
        let Some(i) = wider.max_by(better) else { return };
        left -= step(i, chosen[i]);
        chosen[i] += 1;
    }
}

/// Returns `costs` with every one raised to the highest behind it.
fn falling(costs: &[f64]) -> Vec<f64> {
    let mut falling = costs.to_vec();
    for k in (1..falling.len()).rev() {
        falling[k - 1] = falling[k - 1].max(falling[k]);
    }
    falling
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDTHS: [u32; 6] = [2, 3, 4, 5, 6, 8];

    fn used(choices: &[Choice], chosen: &[usize]) -> u64 {
        choices.iter().zip(chosen).map(|(c, &k)| c.elements * u64::from(WIDTHS[k])).sum()
    }

    fn cost(choices: &[Choice], chosen: &[usize]) -> f64 {
        choices.iter().zip(chosen).map(|(c, &k)| c.costs[k]).sum()
    }

    /// Small problems with made-up element counts and falling costs.
    fn problem(seed: u64) -> Vec<Choice> {
        let number = |i: u64| (seed * 7919 + i * 104_729) % 1009;
        let choice = |i: u64| {
            let scale = (number(i) + 1) as f64;
            let costs = WIDTHS.iter().map(|&w| scale * 0.25f64.powi(w.cast_signed()) + number(i + 50) as f64 * 1e-9);
            Choice { elements: 1 + number(i + 9) % 97, costs: costs.collect() }
        };
        (0..5).map(choice).collect()
    }

    #[test]
    fn no_assignment_within_the_budget_is_cheaper() {
        let mut failed = Vec::new();
        for seed in 0..20 {
            let choices = problem(seed);
            let elements: u64 = choices.iter().map(|c| c.elements).sum();
            for budget in [2 * elements, 3 * elements, 4 * elements + 1, 6 * elements, 8 * elements] {
                let chosen = allot(&choices, &WIDTHS, budget).unwrap();
                let mut least = f64::INFINITY;
                for code in 0..6usize.pow(5) {
                    let other: Vec<usize> = (0..5).map(|i| code / 6usize.pow(i) % 6).collect();
                    if used(&choices, &other) <= budget {
                        least = least.min(cost(&choices, &other));
                    }
                }
                if used(&choices, &chosen) > budget || cost(&choices, &chosen) > least * (1.0 + 1e-12) {
                    failed.push((seed, budget, chosen, least));
                }
            }
        }
        assert!(failed.is_empty(), "{failed:?}");
    }

    #[test]
    fn large_and_coprime_sizes_stay_within_the_budget_and_leave_nothing_that_could_be_used() {
        let sizes = [25_000_003u64, 7_919, 1, 123_456_789, 64];
        let choices: Vec<Choice> = sizes
            .iter()
            .map(|&elements| Choice {
                elements,
                costs: WIDTHS.iter().map(|&w| elements as f64 * 0.25f64.powi(w.cast_signed())).collect(),
            })
            .collect();
        let budget = sizes.iter().sum::<u64>() * 9 / 2;
        let chosen = allot(&choices, &WIDTHS, budget).unwrap();
        let left = budget.checked_sub(used(&choices, &chosen)).expect("the budget holds");
        for (choice, &k) in choices.iter().zip(&chosen) {
            let wider = WIDTHS.get(k + 1).map(|w| choice.elements * u64::from(w - WIDTHS[k]));
            assert!(wider.is_none_or(|bits| bits > left), "{chosen:?} leaves {left}");
        }
    }

    #[test]
    fn a_noisy_cost_never_makes_a_narrower_width_the_better_one() {
        let noisy = [Choice { elements: 8, costs: vec![1.0, 0.5, 0.1, 0.2, 0.15, 0.05] }];
        assert_eq!(allot(&noisy, &WIDTHS, 64), Some(vec![5]));
        assert_eq!(allot(&noisy, &WIDTHS, 15), None);
        assert_eq!(allot(&[], &WIDTHS, 0), Some(vec![]));
    }
}
