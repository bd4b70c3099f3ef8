//! Did each case that `docs/cases.md` promises really run, and leave something in a journal or in an effect ledger?

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::command::root;

/// Names the directory in which tests leave what they have counted; `backstitch-postgres` writes there.
pub const EVIDENCE: &str = "BACKSTITCH_EVIDENCE";

/// The tables whose rows count: the journal, and the ledger of what really happened.
const TABLES: [&str; 2] = ["backstitch.journal", "public.effect"];

/// Compares the list with the evidence.
///
/// # Errors
/// When a case was not shown, with the names of all that were not.
pub fn check(evidence: &Path) -> Result<()> {
    let list = root().join("docs/cases.md");
    let list = fs::read_to_string(&list).with_context(|| format!("reading {}", list.display()))?;
    let mut counted = String::new();
    for file in fs::read_dir(evidence)?.flatten() {
        counted += &fs::read_to_string(file.path())?;
    }
    let cases = cases(&list)?;
    let missing = missing(&cases, &counted);
    println!(
        "{} of {} tests of {} cases left their evidence",
        tests(&cases) - missing.len(),
        tests(&cases),
        cases.len()
    );
    for number in open(&cases) {
        println!("case {number} is open: see docs/cases.md");
    }
    if !missing.is_empty() {
        bail!("these cases of docs/cases.md were not shown:\n  {}", missing.join("\n  "));
    }
    Ok(())
}

/// The tests of each case, by its number; none where it is open.
fn cases(list: &str) -> Result<BTreeMap<u32, Vec<String>>> {
    let mut cases: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    // A case may go on in the next line, indented.
    for line in list.replace("\n    ", " ").lines() {
        let Some((number, text)) = line.split_once(". ") else { continue };
        let Ok(number) = number.parse::<u32>() else { continue };
        let names = text.split(':').next().unwrap_or_default();
        let names: Vec<String> = names.split('`').skip(1).step_by(2).map(String::from).collect();
        let is_open = text.starts_with("open: ");
        if names.is_empty() != is_open || number as usize != cases.len() + 1 {
            bail!("docs/cases.md: case {number} names no test, or is not the next one");
        }
        cases.insert(number, names);
    }
    if cases.is_empty() {
        bail!("docs/cases.md names no case");
    }
    Ok(cases)
}

/// A line for each test that left nothing, or of which it can't be told. `counted`: test, table and number of rows, a tab between
/// them.
fn missing(cases: &BTreeMap<u32, Vec<String>>, counted: &str) -> Vec<String> {
    // Which tests of that name ran: the list says no module.
    let mut ran: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut shown = BTreeSet::new();
    for line in counted.lines() {
        let mut fields = line.split('\t');
        let (Some(test), Some(table), Some(rows)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let name = test.rsplit("::").next().unwrap_or(test);
        ran.entry(name).or_default().insert(test);
        if TABLES.contains(&table) && rows.parse::<u64>().is_ok_and(|rows| rows > 0) {
            shown.insert(name);
        }
    }
    let lines = cases.iter().flat_map(|(number, names)| names.iter().map(move |name| (number, name)));
    lines
        .filter_map(|(number, name)| {
            let why = match ran.get(name.as_str()) {
                Some(tests) if tests.len() > 1 => {
                    let tests: Vec<_> = tests.iter().copied().collect();
                    format!("{} are called so, and one of them could hide the other", tests.join(" and "))
                }
                _ if shown.contains(name.as_str()) => return None,
                Some(_) => "touched neither journal nor ledger".to_owned(),
                None => "did not run on a database".to_owned(),
            };
            Some(format!("{number:>3}  {name}: {why}"))
        })
        .collect()
}

/// The cases that the list itself calls open.
fn open(cases: &BTreeMap<u32, Vec<String>>) -> impl Iterator<Item = u32> {
    cases.iter().filter(|(_, names)| names.is_empty()).map(|(number, _)| *number)
}

fn tests(cases: &BTreeMap<u32, Vec<String>>) -> usize {
    cases.values().map(Vec::len).sum()
}

#[cfg(test)]
mod tests {
    use super::{cases, missing};

    const LIST: &str = "# The cases\n\n1. `one`: of `two` things\n2. `three`,\n    `four`: both\n";

    fn lacks(counted: &str) -> Vec<String> {
        missing(&cases(LIST).expect("it is a list"), counted)
    }

    #[test]
    fn a_case_is_shown_by_rows_in_the_journal_or_the_ledger() {
        let counted =
            "back::one\tbackstitch.journal\t3\nthree\tpublic.effect\t1\nfour\tbackstitch.journal\t2\n";
        assert_eq!(lacks(counted), [] as [&str; 0]);
    }

    #[test]
    fn a_case_that_did_not_run_or_touched_nothing_is_missing() {
        let counted = "back::one\tbackstitch.journal\t0\nback::one\tbackstitch.workflow\t9\nx::three\tpublic.effect\t1\n";
        assert_eq!(
            lacks(counted),
            ["  1  one: touched neither journal nor ledger", "  2  four: did not run on a database"]
        );
        assert_eq!(lacks("").len(), 3, "no evidence at all");
    }

    #[test]
    fn a_name_is_not_that_of_a_longer_one() {
        assert_eq!(lacks("one_more\tbackstitch.journal\t1\n").len(), 3);
    }

    #[test]
    fn two_tests_of_one_name_show_nothing() {
        let counted = "back::one\tbackstitch.journal\t3\nforward::one\tbackstitch.journal\t3\n\
            two\tpublic.effect\t1\nthree\tpublic.effect\t1\nfour\tpublic.effect\t1\n";
        assert_eq!(
            lacks(counted),
            ["  1  one: back::one and forward::one are called so, and one of them could hide the other"]
        );
    }

    #[test]
    fn an_open_case_is_told_and_demands_nothing() {
        let cases = cases("1. `one`\n2. open: two. Not yet\n").expect("it is a list");
        assert_eq!(super::open(&cases).collect::<Vec<_>>(), [2]);
        assert_eq!(missing(&cases, "one\tpublic.effect\t1\n"), [] as [&str; 0]);
    }

    #[test]
    fn a_list_with_a_gap_or_without_names_is_refused() {
        cases("1. `one`\n3. `three`\n").expect_err("a gap");
        cases("1. one\n").expect_err("no name");
        cases("# nothing\n").expect_err("no case");
    }
}
