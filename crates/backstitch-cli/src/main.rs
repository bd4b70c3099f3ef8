//! The daemon and the operator's hand.
fn main() {}
