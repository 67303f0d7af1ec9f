//! Where an axis has ticks, and what they say.

/// Round numbers from 0 to `end`, about as many as wanted and at least 0 itself, and how many
/// decimals they need.
pub(crate) fn ticks(end: f64, wanted: usize) -> (Vec<f64>, usize) {
    if !(end.is_finite() && end > 0.0) {
        return (vec![0.0], 0);
    }
    let rough = end / wanted.max(1) as f64;
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|of| of * power)
        .find(|step| *step >= rough * 0.999);
    let step = step.unwrap_or(10.0 * power);
    let decimals = (-step.log10().floor()).max(0.0) as usize;
    let count = (end / step * 1.000_001).floor() as u32;
    ((0..=count).map(|i| f64::from(i) * step).collect(), decimals)
}

/// The unit that suits a time of so many seconds: its name and its seconds.
pub(crate) fn time_unit(seconds: f64) -> (&'static str, f64) {
    match seconds {
        ..1.0 => ("ms", 1e-3),
        ..180.0 => ("s", 1.0),
        ..10_800.0 => ("min", 60.0),
        ..259_200.0 => ("h", 3600.0),
        _ => ("days", 86_400.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round() {
        assert_eq!(ticks(10.0, 5), (vec![0.0, 2.0, 4.0, 6.0, 8.0, 10.0], 0));
        assert_eq!(ticks(0.35, 4).1, 1);
        assert_eq!(ticks(201.0, 8).0.last(), Some(&200.0));
        assert_eq!(ticks(0.0, 5).0, [0.0]);
        assert_eq!(ticks(f64::NAN, 5).0, [0.0]);
        for end in [1e-9, 0.99, 7.3, 1e6, 1e18] {
            assert!((3..=12).contains(&ticks(end, 8).0.len()), "{end}");
        }
    }
}
