//! The arithmetic of the figures in `benches/figures`: what is told of many measurements, and how it is written. Nothing is
//! measured here.

#![allow(unreachable_pub, dead_code, reason = "a module of the bench")]
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "small"
)]

#[path = "../benches/figures/numbers.rs"]
mod numbers;

use numbers::{Sample, count, megabytes, milliseconds, ratio};

fn sample(values: &[f64]) -> Sample {
    values.iter().copied().collect()
}

#[test]
fn a_quantile_is_a_value_that_was_measured() {
    let hundred: Sample = (1..=100).rev().map(f64::from).collect();
    assert_eq!([0.5, 0.99, 1.0].map(|share| hundred.quantile(share)), [50.0, 99.0, 100.0]);
    let three = sample(&[3.0, 1.0, 2.0]);
    assert_eq!([0.01, 0.5, 0.99].map(|share| three.quantile(share)), [1.0, 2.0, 3.0]);
}

#[test]
fn the_median_lies_in_the_middle() {
    assert_eq!(sample(&[5.0, 1.0, 2.0]).median(), 2.0);
    assert_eq!(sample(&[5.0, 1.0, 2.0, 4.0]).median(), 3.0);
    assert!(sample(&[]).median().is_nan());
}

#[test]
fn ratios_are_taken_pair_by_pair() {
    let over = sample(&[2.0, 9.0]).over(&sample(&[1.0, 3.0]));
    assert_eq!((over.min(), over.max(), over.len()), (2.0, 3.0, 2));
    assert_eq!(over.spread(ratio), "2.000 … 3.000");
}

#[test]
fn numbers_are_written_with_as_many_digits_as_they_deserve() {
    assert_eq!(milliseconds(1_234_567.0), "1.23 ms");
    assert_eq!(milliseconds(12_345_678.0), "12.3 ms");
    assert_eq!(milliseconds(12_345_678_901.0), "12,346 ms");
    assert_eq!(milliseconds(f64::NAN), "–");
    assert_eq!(megabytes(3000.0), "3.07 MB");
    assert_eq!(count(1_234_567.0), "1,234,567");
    assert_eq!(count(123.0), "123");
    assert_eq!(ratio(0.987_65), "0.988");
    assert_eq!(ratio(1.0 / 0.0), "–");
}
