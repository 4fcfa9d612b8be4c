//! Medians and spreads.

use serde::{Deserialize, Serialize};

/// Median and extremes of several values.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The median.
    pub median: f64,
    /// The smallest value.
    pub min: f64,
    /// The largest value.
    pub max: f64,
}

impl Spread {
    /// The spread of these values; `None` if there are none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        Some(Self {
            median: middle(&sorted)?,
            min: *sorted.first()?,
            max: *sorted.last()?,
        })
    }
}

/// The median; `None` if there are no values.
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    Spread::of(values).map(|spread| spread.median)
}

/// The median of the ratios, taken round by round: a disturbance that slows a whole round does not change
/// them.
pub fn median_ratio(ours: &[f64], theirs: &[f64]) -> Option<f64> {
    let pairs = ours.iter().zip(theirs).filter(|(_, theirs)| **theirs > 0.0);
    median(pairs.map(|(ours, theirs)| ours / theirs))
}

fn middle(sorted: &[f64]) -> Option<f64> {
    let half = sorted.len() / 2;
    let upper = *sorted.get(half)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    Some((sorted.get(half - 1)? + upper) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_of_the_sorted_values() {
        assert_eq!(median([3.0, 1.0, 200.0]), Some(3.0));
        assert_eq!(median([4.0, 1.0, 2.0, 10.0]), Some(3.0));
        assert_eq!(median([]), None);
        let spread = Spread::of([3.0, 1.0, 200.0]).expect("there are values");
        assert_eq!((spread.min, spread.max), (1.0, 200.0));
    }

    #[test]
    fn a_ratio_compares_values_of_the_same_round() {
        // The machine is four times slower in the last round; the ratio of each round stays the same.
        let ratio = median_ratio(&[80.0, 84.0, 20.0], &[100.0, 100.0, 25.0]);
        assert_eq!(ratio, Some(0.8));
        assert_eq!(median_ratio(&[1.0], &[0.0]), None);
    }
}
