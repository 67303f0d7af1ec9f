//! Where everything is in a picture, in units of the SVG.

use crate::print::heat::HeatRoom;

pub(crate) const PAGE_WIDTH: f64 = 1280.0;
pub(crate) const MARGIN: f64 = 24.0;
/// Left edge of the cells.
pub(crate) const LEFT: f64 = 392.0;
/// Width of all cells.
pub(crate) const WIDTH: f64 = 740.0;
/// Right edge of the cells.
pub(crate) const RIGHT: f64 = LEFT + WIDTH;
/// Right edges of what stands left of a band.
pub(crate) const ADDRESS: f64 = LEFT - 10.0;
pub(crate) const SIZE: f64 = ADDRESS - 104.0;
/// Right edges of what stands right of a band.
pub(crate) const EVER: f64 = RIGHT + 70.0;
pub(crate) const SHARE: f64 = RIGHT + 116.0;

/// Top and height of the rate above the bands.
pub(crate) const RATE_TOP: f64 = 98.0;
pub(crate) const RATE_HEIGHT: f64 = 48.0;
pub(crate) const BANDS_TOP: f64 = 178.0;
/// Height of a bin.
pub(crate) const BIN: f64 = 3.0;
/// Between bands: where something lies between them, and where nothing does.
pub(crate) const BREAK: f64 = 8.0;
pub(crate) const SEAM: f64 = 1.5;

/// What a picture has room for: labels of 18 units, and columns of two.
pub(crate) const ROOM: HeatRoom = HeatRoom {
    columns: 370,
    bands: 48,
    least: 6,
    spare: 160,
};
