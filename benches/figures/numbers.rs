//! From many measurements to the few numbers that are told, and how those are written.

/// Values of one thing, measured again and again.
#[derive(Clone, Debug, Default)]
pub struct Sample(Vec<f64>);

impl Sample {
    /// Adds one.
    pub fn add(&mut self, value: f64) {
        self.0.push(value);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value that so large a share of all does not exceed; with few values the next larger one, never one between.
    pub fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let place = (share * sorted.len() as f64).ceil() as usize;
        sorted.get(place.saturating_sub(1)).copied().unwrap_or(f64::NAN)
    }

    /// The middle one; of an even number of them, the mean of the two.
    pub fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        match sorted.len() {
            0 => f64::NAN,
            count if count % 2 == 1 => sorted[middle],
            _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
        }
    }

    /// The smallest.
    pub fn min(&self) -> f64 {
        self.0.iter().copied().fold(f64::NAN, f64::min)
    }

    /// The largest.
    pub fn max(&self) -> f64 {
        self.0.iter().copied().fold(f64::NAN, f64::max)
    }

    /// `smallest … largest`, each as `write` writes it.
    pub fn spread(&self, write: impl Fn(f64) -> String) -> String {
        format!("{} … {}", write(self.min()), write(self.max()))
    }

    /// The ratios of two samples, taken pair by pair.
    pub fn over(&self, baseline: &Self) -> Self {
        Self(self.0.iter().zip(&baseline.0).map(|(value, base)| value / base).collect())
    }
}

impl Extend<f64> for Sample {
    fn extend<I: IntoIterator<Item = f64>>(&mut self, values: I) {
        self.0.extend(values);
    }
}

impl FromIterator<f64> for Sample {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        Self(values.into_iter().collect())
    }
}

/// Three digits of a number, or all of those before the point.
fn digits(value: f64) -> String {
    match value.abs() {
        _ if value.is_nan() => "–".to_owned(),
        size if size >= 99.95 => grouped(value),
        size if size >= 9.995 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// A whole number, with commas.
fn grouped(value: f64) -> String {
    let text = format!("{value:.0}");
    let mut out = String::new();
    for (at, digit) in text.chars().enumerate() {
        if at > 0 && (text.len() - at) % 3 == 0 && digit.is_ascii_digit() && !out.ends_with('-') {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Nanoseconds as milliseconds.
pub fn milliseconds(nanoseconds: f64) -> String {
    if nanoseconds.is_nan() { "–".to_owned() } else { format!("{} ms", digits(nanoseconds / 1e6)) }
}

/// Nanoseconds as microseconds.
pub fn microseconds(nanoseconds: f64) -> String {
    if nanoseconds.is_nan() { "–".to_owned() } else { format!("{} µs", digits(nanoseconds / 1e3)) }
}

/// KiB as megabytes (1,000,000 bytes).
pub fn megabytes(kib: f64) -> String {
    if kib.is_nan() { "–".to_owned() } else { format!("{:.2} MB", kib * 1024.0 / 1e6) }
}

/// A ratio.
pub fn ratio(value: f64) -> String {
    match value {
        _ if value.is_nan() || value.is_infinite() => "–".to_owned(),
        _ if value.abs() < 9.995 => format!("{value:.3}"),
        _ => digits(value),
    }
}

/// A number of things.
pub fn count(value: f64) -> String {
    if value.is_nan() { "–".to_owned() } else { grouped(value) }
}
