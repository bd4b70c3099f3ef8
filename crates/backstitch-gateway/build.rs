//! When must this crate be built anew though none of its Rust files changed?

fn main() {
    // `sqlx::migrate!` reads the directory, and can't tell cargo so.
    println!("cargo:rerun-if-changed=migrations");
}
