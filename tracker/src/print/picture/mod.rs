//! Pictures of address by time: what the pictures of all commands have in common.
//!
//! [`bands`] paints a heat map, [`frame`] what stands around it, [`png`] turns the SVG into pixels.

pub(crate) mod bands;
pub(crate) mod frame;
pub(crate) mod layout;
pub(crate) mod png;
pub(crate) mod time_axis;
