//! Does `.sqlx` hold what the query macros would ask of the database today?
//!
//! The macros of sqlx, when they are online, save what Postgres said about each query into `SQLX_OFFLINE_DIR`.
//! So the workspace is checked once against a throwaway database into a fresh directory, and that is `.sqlx`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{cluster, command};

/// Applied in this order: the gateway's pool stands on the engine's schema.
const MIGRATIONS: [&str; 2] = ["migrations", "crates/backstitch-gateway/migrations"];

/// File name to content.
type QueryData = BTreeMap<String, Vec<u8>>;

/// Writes `.sqlx` anew.
pub fn regenerate() -> Result<()> {
    let fresh = asked_of_postgres()?;
    let kept = command::root().join(".sqlx");
    let before = read(&kept)?;
    fs::create_dir_all(&kept)?;
    for name in before.keys().filter(|name| !fresh.contains_key(*name)) {
        fs::remove_file(kept.join(name))?;
    }
    for (name, content) in fresh.iter().filter(|(name, content)| before.get(*name) != Some(*content)) {
        fs::write(kept.join(name), content)?;
    }
    let differences = differences(&before, &fresh);
    println!(".sqlx holds {} queries, {} of them new, gone or different", fresh.len(), differences.len());
    Ok(())
}

/// Fails, and names the queries, if `.sqlx` is not what it would be if it were written now.
pub fn check() -> Result<()> {
    let fresh = asked_of_postgres()?;
    let differences = differences(&read(&command::root().join(".sqlx"))?, &fresh);
    if differences.is_empty() {
        println!(".sqlx is up to date: {} queries", fresh.len());
        return Ok(());
    }
    bail!("`cargo xtask sqlx` brings .sqlx up to date:\n  {}", differences.join("\n  "))
}

fn asked_of_postgres() -> Result<QueryData> {
    let cluster = cluster::start()?;
    for directory in MIGRATIONS {
        for file in migrations(&command::root().join(directory))? {
            cluster.apply(&file)?;
        }
    }
    let fresh = tempfile::tempdir()?;
    expand_all(&cluster.url(), fresh.path())?;
    read(fresh.path())
}

/// Has every query macro of the workspace expanded once more.
///
/// On stable Rust the macros can't tell cargo which variables they read, so cargo would find everything fresh. A
/// wrapper for the crates of the workspace at a new path makes them new, and only them: dependencies stay as they
/// are, and so does what clippy and the tests have built. What was built for nothing else is removed afterwards.
fn expand_all(database_url: &str, data: &Path) -> Result<()> {
    let place = tempfile::tempdir()?;
    let wrapper = place.path().join("env"); // `env rustc …` runs rustc
    std::os::unix::fs::symlink("/usr/bin/env", &wrapper)?;

    let arguments =
        ["check", "--locked", "--workspace", "--all-targets", "--message-format=json-render-diagnostics"];
    let mut check = command::cargo(&arguments);
    check.env("RUSTC_WORKSPACE_WRAPPER", &wrapper).env("CARGO_INCREMENTAL", "0");
    check.env("DATABASE_URL", database_url).env("SQLX_OFFLINE", "false").env("SQLX_OFFLINE_DIR", data);

    let output =
        check.stderr(std::process::Stdio::inherit()).output().context("could not start cargo check")?;
    for line in output.stdout.split(|byte| *byte == b'\n') {
        forget(&serde_json::from_slice(line).unwrap_or_default());
    }
    if !output.status.success() {
        bail!("the workspace does not compile against its migrations (see above)");
    }
    Ok(())
}

/// Removes what cargo says it built for a crate of ours: the output, its dependency file, its fingerprint.
fn forget(message: &Value) {
    let ours =
        message["manifest_path"].as_str().is_some_and(|path| Path::new(path).starts_with(command::root()));
    if message["reason"] != "compiler-artifact" || !ours {
        return;
    }
    for file in
        message["filenames"].as_array().into_iter().flatten().filter_map(Value::as_str).map(PathBuf::from)
    {
        let Some((_, hash)) =
            file.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.rsplit_once('-'))
        else {
            continue;
        };
        let Some(built) = file.parent() else { continue };
        for directory in [built.to_path_buf(), built.with_file_name(".fingerprint")] {
            for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.file_stem().is_some_and(|stem| stem.to_string_lossy().ends_with(hash)) {
                    // Left-overs cost a few kilobytes and nothing else.
                    let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
                }
            }
        }
    }
}

/// The migrations of a directory in the order of their numbers.
fn migrations(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut numbered = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten() {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.ends_with(".sql") && !name.ends_with(".down.sql") {
            let number = name.split('_').next().and_then(|number| number.parse::<u64>().ok());
            numbered
                .push((number.with_context(|| format!("{name}: a migration begins with its number"))?, path));
        }
    }
    numbered.sort();
    Ok(numbered.into_iter().map(|(_, path)| path).collect())
}

fn read(directory: &Path) -> Result<QueryData> {
    let mut data = QueryData::new();
    for entry in fs::read_dir(directory).into_iter().flatten() {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("query-") && name.ends_with(".json") {
            data.insert(name, fs::read(entry.path())?);
        }
    }
    Ok(data)
}

fn differences(kept: &QueryData, fresh: &QueryData) -> Vec<String> {
    let mut lines = Vec::new();
    for (name, content) in fresh {
        match kept.get(name) {
            None => lines.push(format!("missing    {name}  {}", first_line(content))),
            Some(other) if other != content => {
                lines.push(format!("different  {name}  {}", first_line(content)))
            }
            Some(_) => {}
        }
    }
    for (name, content) in kept.iter().filter(|(name, _)| !fresh.contains_key(*name)) {
        lines.push(format!("stale      {name}  {}", first_line(content)));
    }
    lines
}

/// The beginning of the query, so that a reader knows which one it is.
fn first_line(content: &[u8]) -> String {
    let data: Value = serde_json::from_slice(content).unwrap_or_default();
    let query = data["query"].as_str().unwrap_or("(not readable)");
    query.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(60).collect()
}
