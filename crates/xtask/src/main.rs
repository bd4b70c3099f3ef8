//! Set-up, demo, test and lint.
fn main() {}
