//! The colours of shares.
//!
//! viridis: its brightness says the same to every eye, also to one that sees fewer colours, and in
//! print. The scale is a power: one page of a thousand can be seen, and half of all pages looks
//! different from all.

/// How many levels of the scale are told apart.
pub(crate) const LEVELS: u8 = 25;

/// The shares that a legend shows.
pub(crate) const MARKS: [(f64, &str); 5] = [
    (1e-3, "0.1%"),
    (1e-2, "1%"),
    (0.1, "10%"),
    (0.5, "50%"),
    (1.0, "100%"),
];

/// It puts 10% in the middle.
const POWER: f64 = 0.3;

/// viridis in nine steps, from dark to bright.
const VIRIDIS: [[u8; 3]; 9] = [
    [0x44, 0x01, 0x54],
    [0x47, 0x2d, 0x7b],
    [0x3b, 0x52, 0x8b],
    [0x2c, 0x72, 0x8e],
    [0x21, 0x91, 0x8c],
    [0x28, 0xae, 0x80],
    [0x5e, 0xc9, 0x62],
    [0xad, 0xdc, 0x30],
    [0xfd, 0xe7, 0x25],
];

/// Where a share lies on the scale: 0 for none, 1 for all.
pub(crate) fn place(share: f64) -> f64 {
    share.clamp(0.0, 1.0).powf(POWER)
}

/// The level of a share, below [`LEVELS`].
pub(crate) fn level(share: f64) -> u8 {
    (place(share) * f64::from(LEVELS - 1)).round() as u8
}

/// The colour at a place between 0 (dark) and 1 (bright).
fn viridis(place: f64) -> [u8; 3] {
    let at = place.clamp(0.0, 1.0) * (VIRIDIS.len() - 1) as f64;
    let (low, part) = (at as usize, at.fract());
    let step = |i: usize| {
        VIRIDIS
            .get(i)
            .or(VIRIDIS.last())
            .copied()
            .unwrap_or_default()
    };
    let (low, high) = (step(low), step(low + 1));
    let mut mixed = low;
    for ((mixed, low), high) in mixed.iter_mut().zip(low).zip(high) {
        *mixed = (f64::from(low) * (1.0 - part) + f64::from(high) * part).round() as u8;
    }
    mixed
}

/// On white paper: the more, the darker. The brightest yellow, hard to see there, is left out.
pub(crate) fn on_paper(place: f64) -> [u8; 3] {
    viridis(0.92 * (1.0 - place))
}

/// In a terminal, which is mostly dark: the more, the brighter.
pub(crate) fn in_terminal(place: f64) -> [u8; 3] {
    viridis(0.15 + 0.85 * place)
}

/// A colour as `#rrggbb`.
pub(crate) fn hex([r, g, b]: [u8; 3]) -> String {
    format!("#{r:02x}{g:02x}{b:02x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_has_one_direction() {
        assert_eq!(
            [level(0.0), level(1e-9), level(0.1), level(1.0)],
            [0, 0, 12, LEVELS - 1]
        );
        let light =
            |[r, g, b]: [u8; 3]| 0.21 * f64::from(r) + 0.72 * f64::from(g) + 0.07 * f64::from(b);
        for i in 1..=100 {
            let (a, b) = (f64::from(i - 1) / 100.0, f64::from(i) / 100.0);
            assert!(light(viridis(a)) <= light(viridis(b)));
        }
    }
}
