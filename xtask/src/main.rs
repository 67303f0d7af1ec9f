//! Everything a contributor types: set-up, build, run, test, vm, bench.
fn main() {}
