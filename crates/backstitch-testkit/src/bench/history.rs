//! Does what has ended, or waits for later, slow down what is due?

use chrono::{Days, Utc};

use super::drain::drain;
use super::error::Error;
use super::figure::Figure;
use super::meter::{self, Meter};
use super::place::BenchDatabase;
use super::sample::each;
use super::work::Completing;
use super::{Bench, ask};

/// How many pairs of runs there are; the median of their ratios counts.
const PAIRS: usize = 5;

/// How many are run between two words about how far it is.
const AT_ONCE: u64 = 50_000;

/// What is wanted.
#[derive(Debug, Clone, Copy)]
pub struct History {
    /// How many workflows have ended, all of them run by the engine.
    pub finished: u64,
    /// How many wait for tomorrow.
    pub waiting: u64,
    /// How many are then enqueued and run, each time.
    pub workflows: u64,
    /// How many a worker drives at once.
    pub in_flight: usize,
}

/// Measures. Keys:
///
/// - `history.finished_ratio`: workflows a second in a database in which that many have ended, over those in an empty one;
///   of five pairs of runs, one right after the other, taking turns in who begins.
/// - `history.vacuumed_ratio`: the same right after a vacuum.
/// - `history.waiting_ratio`: the same where that many wait for tomorrow.
/// - `history.empty_per_s`, `history.finished_per_s`, `history.waiting_per_s`: the workflows a second themselves.
/// - `history.finished_bytes_each`, `history.waiting_bytes_each`: tables and indexes, by how many they hold.
///
/// # Errors
/// When the database does not answer, or workflows end otherwise than they should.
pub async fn measure(bench: &Bench, wanted: History) -> Result<Vec<Figure>, Error> {
    let mut meter = Meter::at(&bench.place).await?;
    let finished = bench.place.database().await?;
    finish(bench, &mut meter, &finished, wanted).await?;
    let beside_finished = pairs(bench, &mut meter, &finished, wanted, "finished").await?;
    let ended = wanted.finished + wanted.workflows * PAIRS as u64;
    // This vacuums: what was free on old pages is now known to be.
    let finished_bytes = meter::engine_bytes(&finished).await? / each(ended);
    let beside_vacuumed = pairs(bench, &mut meter, &finished, wanted, "vacuumed").await?;
    bench.place.forget(finished).await?;

    let waiting = bench.place.database().await?;
    bench.tell(format!("history: enqueueing {} for tomorrow", wanted.waiting));
    ask::many::<Completing>(&waiting, wanted.waiting, Some(Utc::now() + Days::new(1))).await?;
    let waiting_bytes = meter::engine_bytes(&waiting).await? / each(wanted.waiting);
    let beside_waiting = pairs(bench, &mut meter, &waiting, wanted, "waiting").await?;
    bench.place.forget(waiting).await?;

    let ratios = |pairs: &[Pair]| pairs.iter().map(|pair| pair.full / pair.empty).collect();
    let full = |pairs: &[Pair]| pairs.iter().map(|pair| pair.full).collect();
    let all = [&beside_finished, &beside_vacuumed, &beside_waiting];
    let empty = all.into_iter().flatten().map(|pair| pair.empty).collect();
    Ok(vec![
        Figure::of("history.empty_per_s", "/s", "workflows completed in an empty database", empty),
        Figure::of(
            "history.finished_per_s",
            "/s",
            "the same beside those that have ended",
            full(&beside_finished),
        ),
        Figure::of(
            "history.finished_ratio",
            "ratio",
            "beside those that have ended over empty",
            ratios(&beside_finished),
        ),
        Figure::of(
            "history.vacuumed_ratio",
            "ratio",
            "the same right after a vacuum",
            ratios(&beside_vacuumed),
        ),
        Figure::of(
            "history.waiting_per_s",
            "/s",
            "the same beside those that wait for tomorrow",
            full(&beside_waiting),
        ),
        Figure::of(
            "history.waiting_ratio",
            "ratio",
            "beside those that wait over empty",
            ratios(&beside_waiting),
        ),
        Figure::once(
            "history.finished_bytes_each",
            "bytes",
            "tables and indexes for one that has ended",
            finished_bytes,
        ),
        Figure::once(
            "history.waiting_bytes_each",
            "bytes",
            "tables and indexes for one that waits",
            waiting_bytes,
        ),
    ])
}

struct Pair {
    empty: f64,
    full: f64,
}

async fn finish(
    bench: &Bench,
    meter: &mut Meter,
    database: &BenchDatabase,
    wanted: History,
) -> Result<(), Error> {
    let mut done = 0;
    while done < wanted.finished {
        let now = (wanted.finished - done).min(AT_ONCE);
        per_second(meter, database, wanted, now).await?;
        done += now;
        bench.tell(format!("history: {done} of {} have run", wanted.finished));
    }
    Ok(())
}

async fn pairs(
    bench: &Bench,
    meter: &mut Meter,
    full: &BenchDatabase,
    wanted: History,
    what: &str,
) -> Result<Vec<Pair>, Error> {
    let mut pairs = Vec::new();
    let count = if bench.pace.rounds == 1 { 1 } else { PAIRS };
    for number in 0..count {
        let empty = bench.place.database().await?;
        let pair = if number % 2 == 0 {
            let of_empty = per_second(meter, &empty, wanted, wanted.workflows).await?;
            Pair { empty: of_empty, full: per_second(meter, full, wanted, wanted.workflows).await? }
        } else {
            let of_full = per_second(meter, full, wanted, wanted.workflows).await?;
            Pair { full: of_full, empty: per_second(meter, &empty, wanted, wanted.workflows).await? }
        };
        bench.place.forget(empty).await?;
        bench.tell(format!("  empty: {:.0} workflows/s, {what}: {:.0}", pair.empty, pair.full));
        pairs.push(pair);
    }
    Ok(pairs)
}

async fn per_second(
    meter: &mut Meter,
    database: &BenchDatabase,
    wanted: History,
    workflows: u64,
) -> Result<f64, Error> {
    ask::many::<Completing>(database, workflows, None).await?;
    let drained = drain(meter, database, workflows, wanted.in_flight).await?;
    Ok(each(workflows) / drained.seconds)
}
