//! The heat map as SVG and PNG.

pub(crate) mod bands;
pub(crate) mod draw;
pub(crate) mod scales;

use std::sync::Arc;

use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{self, fontdb};

use super::{HeatMap, Report, Room};

/// Pixels of a PNG for each unit of the SVG: sharp also on a good screen.
const SCALE: f32 = 2.0;

/// Height of a bin in units of the SVG.
const BIN: f64 = 3.0;

/// What a picture has room for: labels of 18 units, and columns of two.
pub(crate) const ROOM: Room = Room {
    columns: 370,
    bands: 48,
    least: 6,
    spare: 160,
};

/// Why there is no PNG.
#[derive(Debug, thiserror::Error)]
pub enum PictureError {
    /// What was drawn is not understood; a mistake of ours.
    #[error("cannot read the SVG that was drawn: {0}")]
    Svg(#[from] usvg::Error),
    /// No memory for so many pixels.
    #[error("no room for a picture of {width} x {height} pixels")]
    Size {
        /// Pixels.
        width: u32,
        /// Pixels.
        height: u32,
    },
    /// The picture cannot be packed.
    #[error("cannot encode the picture: {0}")]
    Encode(String),
}

/// The heat map as an SVG document.
#[must_use]
pub fn svg(report: &Report<'_>) -> String {
    draw::document(report, &HeatMap::new(report, ROOM))
}

/// An SVG document of [`svg`] as PNG. Its text is drawn with DejaVu Sans, which the program has in itself: a server has no
/// fonts.
///
/// # Errors
/// If there is not enough memory for it.
pub fn png(svg: &str) -> Result<Vec<u8>, PictureError> {
    let mut fonts = fontdb::Database::new();
    fonts.load_font_data(dejavu::sans::regular().to_vec());
    fonts.set_sans_serif_family("DejaVu Sans");
    let options = usvg::Options {
        fontdb: Arc::new(fonts),
        font_family: "DejaVu Sans".to_owned(),
        ..usvg::Options::default()
    };
    let tree = usvg::Tree::from_str(svg, &options)?;
    let size = tree.size();
    let (width, height) = (
        (size.width() * SCALE).ceil() as u32,
        (size.height() * SCALE).ceil() as u32,
    );
    let mut pixels = Pixmap::new(width, height).ok_or(PictureError::Size { width, height })?;
    resvg::render(
        &tree,
        Transform::from_scale(SCALE, SCALE),
        &mut pixels.as_mut(),
    );
    pixels
        .encode_png()
        .map_err(|e| PictureError::Encode(e.to_string()))
}
