//! Does the house still stand as drawn: arrows, rooms, words and sizes?

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Who may stand on whom. An arrow that is not here is a decision record first.
const ARROWS: [(&str, &[&str]); 9] = [
    ("backstitch-core", &[]),
    ("backstitch-model", &["backstitch-core"]),
    ("backstitch-postgres", &[]),
    ("backstitch", &["backstitch-core"]),
    ("backstitch-gateway", &["backstitch"]),
    ("backstitch-server", &["backstitch"]),
    ("backstitch-testkit", &["backstitch", "backstitch-postgres"]),
    (
        "backstitch-cli",
        &[
            "backstitch",
            "backstitch-server",
            "backstitch-gateway",
            "backstitch-postgres",
            "backstitch-testkit",
        ],
    ),
    ("xtask", &[]),
];

/// Tests may also stand on these: what is only there for tests closes no circle of what ships.
const ARROWS_OF_TESTS: [&str; 2] = ["backstitch-postgres", "backstitch-testkit"];

/// What would bring I/O or randomness into the core.
const NOT_IN_CORE: [&str; 9] = [
    "tokio",
    "tokio-util",
    "sqlx",
    "rand",
    "getrandom",
    "reqwest",
    "rustix",
    "tempfile",
    "tracing-subscriber",
];

/// Features unify over a workspace, so what a manifest leaves out is there all the same: the calls are what counts.
const NOT_CALLED_IN_CORE: [&str; 9] = [
    "::now()",
    "SystemTime",
    "Instant",
    "std::fs",
    "std::net",
    "std::env",
    "std::thread",
    "new_v4",
    "now_v7",
];

/// What the engine promises to SQL of others; all else in its schema is its own affair.
const CONTRACT: [&str; 7] = ["enqueue", "cancel", "clock", "uuid_v7", "workflows", "steps", "attention"];

/// Words that say nothing of what a thing is for.
const EMPTY_WORDS: [&str; 6] = ["manager", "helper", "helpers", "util", "utils", "common"];

/// Past this a second question has moved in.
const LINES_MAX: usize = 500;

#[test]
fn arrows_only_point_down() {
    for package in packages() {
        let name = text(&package["name"]);
        let (_, allowed) =
            ARROWS.iter().find(|(known, _)| *known == name).expect("every crate has its place in ARROWS");
        for (dependency, kind) in dependencies(&package) {
            let of_a_test = kind == "dev" && ARROWS_OF_TESTS.contains(&dependency.as_str());
            let ours = ARROWS.iter().any(|(known, _)| *known == dependency);
            assert!(
                !ours || allowed.contains(&dependency.as_str()) || of_a_test || dependency == name,
                "{name} may not stand on {dependency}"
            );
        }
    }
}

#[test]
fn the_core_does_no_io_and_knows_no_clock() {
    let core = packages()
        .into_iter()
        .find(|package| text(&package["name"]) == "backstitch-core")
        .expect("there is a core");
    for (dependency, kind) in dependencies(&core) {
        assert!(
            kind == "dev" || !NOT_IN_CORE.contains(&dependency.as_str()),
            "backstitch-core may not use {dependency}"
        );
    }
    each_source("crates/backstitch-core/src", "rs", |path, source| {
        for call in NOT_CALLED_IN_CORE {
            assert!(
                !code(source).contains(call),
                "{}: the core is told, it does not look: {call}",
                path.display()
            );
        }
    });
}

#[test]
fn sql_on_the_engines_schema_stays_with_the_engine() {
    // A test may look behind the curtain, and so must the tests' oracle, which does not take the engine's word; what
    // ships may not. The hostile texts are no queries, and the tests see to that; nor are the texts by which sweep and torture
    // know a worker's statements again. What does harm on purpose, and what looks for it, reach for what nobody else may.
    let elsewhere = |path: &Path| {
        let inside = path.strip_prefix(root()).expect("sources lie in the workspace");
        !inside.starts_with("crates/backstitch")
            && !inside.ends_with("backstitch-testkit/src/oracle.rs")
            && ![
                "backstitch-testkit/src/hostile.rs",
                "backstitch-testkit/src/clock.rs",
                "backstitch-testkit/src/harm.rs",
                "backstitch-testkit/src/looks.rs",
                "backstitch-testkit/src/sweep.rs",
                "backstitch-cli/src/torture/fault.rs",
            ]
            .iter()
            .any(|file| inside.ends_with(file))
            && inside.components().all(|part| part.as_os_str() != "tests")
    };
    let check = |path: &Path, source: &str| {
        if let Some(name) = elsewhere(path).then(|| foreign_sql(source)).flatten() {
            panic!("{}: backstitch.{name} is not part of what the engine promises", path.display());
        }
    };
    each_source("crates", "rs", check);
    each_source("crates", "sql", check);
}

#[test]
fn a_foreign_query_is_recognised() {
    assert_eq!(foreign_sql("SELECT id\n  FROM backstitch.journal").as_deref(), Some("journal"));
    assert_eq!(foreign_sql("perform backstitch.bury(1)").as_deref(), Some("bury"));
    assert_eq!(
        foreign_sql("select backstitch.enqueue($1), backstitch.clock() from backstitch.workflows"),
        None
    );
    assert_eq!(foreign_sql("reads it from backstitch.toml"), None);
}

#[test]
fn a_file_says_which_question_it_answers_and_answers_no_second() {
    each_source("crates", "rs", |path, source| {
        assert!(
            source.starts_with("//! "),
            "{}: the first line says which question the file answers",
            path.display()
        );
        let lines = source.lines().count();
        assert!(lines <= LINES_MAX, "{}: {lines} lines; what second question moved in?", path.display());
    });
}

#[test]
fn imports_of_files_close_no_circle() {
    let mut imports: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    each_source("crates", "rs", |path, source| {
        let inside = path.strip_prefix(root()).expect("sources lie in the workspace");
        let parts: Vec<_> = inside.iter().map(|part| part.to_string_lossy().into_owned()).collect();
        // What is in the root of a crate is for its users.
        let [_, krate, src, rooms @ ..] = &parts[..] else { return };
        if src != "src" || ["lib.rs", "main.rs", "bin"].contains(&rooms[0].as_str()) {
            return;
        }
        let rooms: Vec<_> = rooms.iter().map(|room| room.trim_end_matches(".rs")).collect();
        let named = code(source);
        // A file with its folder is one room among its neighbours, on each floor of the folder again.
        for floor in 0..rooms.len() {
            let place = [&[krate.as_str()], &rooms[..floor]].concat().join("/");
            let below: String = rooms[..floor].iter().map(|room| format!("{room}::")).collect();
            let mut of = names_after(&named, &format!("crate::{below}"));
            if floor + 1 == rooms.len() {
                of.extend(names_after(&named, "super::"));
            }
            of.remove(rooms[floor]);
            imports.entry((place, rooms[floor].to_owned())).or_default().extend(of);
        }
    });
    // Whoever imports nothing that is left stands at the bottom; a circle never gets there.
    loop {
        let left: BTreeSet<_> = imports.keys().cloned().collect();
        let before = imports.len();
        imports.retain(|(place, _), of| of.iter().any(|name| left.contains(&(place.clone(), name.clone()))));
        if imports.len() == before {
            break;
        }
    }
    assert!(imports.is_empty(), "these files import each other, or stand on such: {:?}", imports.keys());
}

#[test]
fn names_say_what_a_thing_is_for() {
    each_source("crates", "rs", |path, source| {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let declared = source.lines().filter_map(declared_name).chain([stem.as_ref()]);
        for name in declared {
            let words = words(name);
            let empty = words.iter().find(|word| EMPTY_WORDS.contains(&word.as_str()));
            assert!(empty.is_none(), "{}: {name} does not say what it is for", path.display());
            // The rollback report is the one thing of ours that has that name.
            let other = words.contains(&"undo".into())
                || words.windows(2).any(|pair| pair[0] == "rollback" && pair[1] != "report");
            assert!(!other, "{}: {name}: the word is compensate", path.display());
        }
    });
}

/// The first name of the engine's schema that a query uses and the contract does not know.
fn foreign_sql(source: &str) -> Option<String> {
    const BEFORE: [&str; 9] =
        ["from", "join", "into", "update", "table", "only", "select", "perform", "call"];
    let lower = source.to_lowercase();
    lower.match_indices("backstitch.").find_map(|(at, schema)| {
        let before = lower[..at].split_whitespace().next_back()?;
        let name: String =
            lower[at + schema.len()..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let query = BEFORE.contains(&before.trim_start_matches(['"', '(', '#']));
        (query && name != "toml" && !CONTRACT.contains(&name.as_str())).then_some(name)
    })
}

/// What is named right after this path.
fn names_after(source: &str, path: &str) -> BTreeSet<String> {
    let is_of_a_name = |c: &char| c.is_alphanumeric() || *c == '_';
    source.split(path).skip(1).map(|rest| rest.chars().take_while(is_of_a_name).collect()).collect()
}

/// The source without its comments, and without the tests at its end.
fn code(source: &str) -> String {
    let shipped = source.split("#[cfg(test)]").next().unwrap_or_default();
    shipped.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

fn declared_name(line: &str) -> Option<&str> {
    let mut words = line
        .split_whitespace()
        .skip_while(|word| word.starts_with("pub") || ["async", "const"].contains(word));
    let keyword = words.next()?;
    let rest =
        ["fn", "struct", "enum", "trait", "mod", "type"].contains(&keyword).then(|| words.next())??;
    rest.split(|c: char| !c.is_alphanumeric() && c != '_').next()
}

/// `RollbackReport` and `rollback_report` are the same two words.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for c in name.chars() {
        if c == '_' || c.is_uppercase() {
            words.push(String::new());
        }
        if c != '_' {
            words.last_mut().expect("there is always a last word").extend(c.to_lowercase());
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

fn packages() -> Vec<Value> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let arguments = ["metadata", "--no-deps", "--format-version", "1", "--offline"];
    let output = Command::new(cargo).args(arguments).current_dir(root()).output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata is json");
    metadata["packages"].as_array().expect("a workspace has packages").clone()
}

/// Name and kind (`normal`, `dev`, `build`), each pair once.
fn dependencies(package: &Value) -> BTreeSet<(String, String)> {
    let all = package["dependencies"].as_array().into_iter().flatten();
    all.map(|found| (text(&found["name"]), found["kind"].as_str().unwrap_or("normal").into())).collect()
}

fn each_source(below: &str, extension: &str, mut see: impl FnMut(&Path, &str)) {
    let mut open = vec![root().join(below)];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).expect("the workspace is readable").flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                see(&path, &fs::read_to_string(&path).expect("sources are text"));
            }
        }
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .expect("xtask lives in crates/ of its workspace")
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().into()
}
