//! A picture as pixels.

use std::sync::Arc;

use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{self, fontdb};

/// Pixels of a PNG for each unit of the SVG: sharp on a good screen, too.
const SCALE: f32 = 2.0;

/// Why there is no PNG.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PictureError {
    /// We drew what nobody can read.
    #[error("cannot read the SVG that was drawn: {0}")]
    Svg(#[from] usvg::Error),
    /// There is no memory for so many pixels.
    #[error("no room for a picture of {width} x {height} pixels")]
    Size { width: u32, height: u32 },
    /// The pixels cannot be packed.
    #[error("cannot encode the picture: {reason}")]
    Encode { reason: String },
}

/// Draws an SVG document of ours. Its text is set in DejaVu Sans, which is part of the program: a
/// server has no fonts.
///
/// # Errors
/// If there is not enough memory for it.
pub(crate) fn png(svg: &str) -> Result<Vec<u8>, PictureError> {
    let mut fonts = fontdb::Database::new();
    fonts.load_font_data(dejavu::sans::regular().to_vec());
    fonts.set_sans_serif_family("DejaVu Sans");
    let options = usvg::Options {
        fontdb: Arc::new(fonts),
        font_family: "DejaVu Sans".to_owned(),
        ..usvg::Options::default()
    };
    let tree = usvg::Tree::from_str(svg, &options)?;
    let pixels = |length: f32| (length * SCALE).ceil() as u32;
    let (width, height) = (pixels(tree.size().width()), pixels(tree.size().height()));
    let mut pixels = Pixmap::new(width, height).ok_or(PictureError::Size { width, height })?;
    let scale = Transform::from_scale(SCALE, SCALE);
    resvg::render(&tree, scale, &mut pixels.as_mut());
    pixels.encode_png().map_err(|error| PictureError::Encode {
        reason: error.to_string(),
    })
}
