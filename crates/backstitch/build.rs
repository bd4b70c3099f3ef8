//! When is this crate built anew, and what are its queries checked against?

fn main() {
    // `migrate!` holds them all: anew also when one is added.
    println!("cargo:rerun-if-changed=../../migrations");
    // Against `.sqlx`. Whoever depends on this crate has no `.cargo/config.toml` of ours that says so, and a DATABASE_URL of
    // their own, where these tables may not be.
    println!("cargo:rerun-if-env-changed=SQLX_OFFLINE");
    if std::env::var_os("SQLX_OFFLINE").is_none() {
        println!("cargo:rustc-env=SQLX_OFFLINE=true");
    }
}
