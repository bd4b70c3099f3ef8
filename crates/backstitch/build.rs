//! When is this crate built anew? Also when a migration is added: `migrate!` holds them all.

fn main() {
    println!("cargo:rerun-if-changed=../../migrations");
}
