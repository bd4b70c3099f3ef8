//! Random workflows under random hardships, hundreds of them, against a real Postgres: each ends, as it must where that can be
//! said beforehand, and the oracle's word is held over each.
//!
//! - `case` makes them up, and says how they must end.
//! - `lane` drives them, and does to them what was made up.

mod case;
mod lane;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::env;
use std::ops::Range;
use std::rc::Rc;

use backstitch_testkit::world::World;
use backstitch_testkit::{harm, looks};
use tokio::task::{JoinSet, LocalSet};

use self::case::{Case, Hardship, Must, cases};
use self::lane::{Gone, Lane, script};
use crate::prefixes::each_prefix_recovers;

/// How many there are in a run of the suite, which has minutes; [`LONG`] times as many where there is time.
const CASES: usize = 256;
/// Set by `cargo xtask test --long`.
const LONG: (&str, usize) = ("BACKSTITCH_TEST_LONG", 20);
/// As many go on beside each other: mostly they wait.
const LANES: usize = 6;
/// Of one workflow in so many each prefix of its journal is driven, too.
const PREFIXES_EVERY: usize = 8;

/// Each of them, in no order.
async fn gone_through(world: &Rc<World>, cases: &Rc<Vec<Case>>) -> Vec<(usize, Gone)> {
    let next = Rc::new(Cell::new(0));
    let mut lanes = JoinSet::new();
    for number in 0..LANES {
        let (world, cases, next) = (Rc::clone(world), Rc::clone(cases), Rc::clone(&next));
        lanes.spawn_local(async move {
            let mut lane = Lane::new(world, number).await;
            let mut gone = Vec::new();
            while let Some(case) = cases.get(next.get()) {
                let index = next.replace(next.get() + 1);
                gone.push((index, lane.goes_through(case).await));
            }
            gone
        });
    }
    lanes.join_all().await.into_iter().flatten().collect()
}

#[tokio::test]
async fn any_workflow_ends_well_whatever_happens_to_it() {
    let (variable, times) = LONG;
    let count = if env::var_os(variable).is_some() { CASES * times } else { CASES };
    let (world, cases) = (Rc::new(World::new().await), Rc::new(cases(count)));
    harm::note_stale_claims(&world.pool).await.expect("it is ours");
    let gone = LocalSet::new().run_until(gone_through(&world, &cases)).await;
    let stale = looks::written_under_a_stale_claim(&world.pool).await.expect("it answers");
    assert!(stale.is_empty(), "written by somebody who has no right to: {stale:?}");
    let mut fired: BTreeMap<Hardship, usize> = BTreeMap::new();
    for what in gone.iter().flat_map(|(_, gone)| &gone.fired) {
        *fired.entry(*what).or_default() += 1;
    }
    let completed = gone.iter().filter(|(_, gone)| gone.how == Must::Complete).count();
    let mut prefixes = 0;
    for (index, Gone { workflow, .. }) in gone.iter().filter(|(index, _)| index % PREFIXES_EVERY == 0) {
        let case = &cases[*index];
        prefixes += match case.resumes {
            true => each_prefix_recovers(&world, *workflow, script::<true>(case)).await,
            false => each_prefix_recovers(&world, *workflow, script::<false>(case)).await,
        };
    }
    println!(
        "{completed} of {} completed, the others were taken back; {fired:?}; {prefixes} prefixes",
        gone.len()
    );
    let enough: Range<usize> = gone.len() / 5..gone.len() * 4 / 5;
    assert!(enough.contains(&completed), "both ways are gone");
    assert!(fired.len() == 5 && fired.values().all(|times| *times >= 5), "each comes about: {fired:?}");
    assert!(prefixes >= gone.len(), "only {prefixes} prefixes were tried");
}

/// A control run: without what it is there to find, it would find nothing.
#[tokio::test]
async fn random_hardships_notice_that_there_is_no_fence() {
    let (world, cases) = (Rc::new(World::new().await), Rc::new(cases(CASES / 4)));
    harm::note_stale_claims(&world.pool).await.expect("it is ours");
    harm::take_the_fence_away(&world.pool).await.expect("it is ours");
    let lanes = LocalSet::new();
    let going = {
        let (world, cases) = (Rc::clone(&world), Rc::clone(&cases));
        lanes.spawn_local(async move { gone_through(&world, &cases).await })
    };
    // It may come to a bad end, for that reason or another.
    let _ = lanes.run_until(going).await;
    let stale = looks::written_under_a_stale_claim(&world.pool).await.expect("it answers");
    assert!(!stale.is_empty(), "nobody wrote who has no right to");
}
