//! The `tracker` command.
fn main() {}
