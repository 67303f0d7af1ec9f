//! How sure a share is that was found in a sample.

/// 95% of a normal distribution lie within so many standard deviations of its mean.
const Z: f64 = 1.96;

/// Wilson's interval at 95% for a share of `part` in `whole`; `None` if there is no whole. It also
/// holds for small samples, and for shares near none and all.
pub(super) fn wilson(part: u64, whole: u64) -> Option<(f64, f64)> {
    if whole == 0 {
        return None;
    }
    let n = whole as f64;
    let p = (part as f64 / n).min(1.0);
    let spread = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + Z * Z / n;
    let middle = p + Z * Z / (2.0 * n);
    let low = ((middle - spread) / scale).clamp(0.0, p);
    let high = ((middle + spread) / scale).clamp(p, 1.0);
    Some((low, high))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn wilson_is_what_the_books_say() {
        // Newcombe 1998, table I: 81/263, 15/148, 0/20, 1/29.
        let cases = [
            (81, 263, 0.2553, 0.3662),
            (15, 148, 0.0624, 0.1605),
            (0, 20, 0.0, 0.1611),
            (1, 29, 0.0061, 0.1718),
        ];
        for (part, whole, low, high) in cases {
            let (l, h) = wilson(part, whole).unwrap();
            assert!((l - low).abs() < 1e-4 && (h - high).abs() < 1e-4, "{l} {h}");
        }
        assert_eq!(wilson(0, 0), None);
        assert!(wilson(u64::MAX, 1).unwrap().1 <= 1.0);
    }
}
