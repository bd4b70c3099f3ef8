//! Which one number stands for many?

/// The middle one; of an even number the mean of the two in the middle. NaN of none.
pub(super) fn median(runs: &[f64]) -> f64 {
    let sorted = sorted(runs);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// The smallest that `percent` of all do not exceed (nearest rank). NaN of none.
pub(super) fn percentile(runs: &[f64], percent: usize) -> f64 {
    let sorted = sorted(runs);
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or(f64::NAN)
}

/// A count as something to divide by.
#[allow(clippy::cast_precision_loss, reason = "nobody counts to 2^52 here")]
pub(super) fn each(workflows: u64) -> f64 {
    workflows as f64
}

fn sorted(runs: &[f64]) -> Vec<f64> {
    let mut sorted = runs.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn percentiles_are_numbers_that_occurred() {
        let hundred: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        for (percent, expected) in [(50, 50.0), (90, 90.0), (99, 99.0), (100, 100.0), (0, 1.0)] {
            assert!((percentile(&hundred, percent) - expected).abs() < 1e-9, "{percent}");
        }
        assert!((percentile(&[7.0], 99) - 7.0).abs() < 1e-9);
        assert!(percentile(&[], 50).is_nan());
    }
}
