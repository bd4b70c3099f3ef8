//! What does taking back cost beside going on?

use super::drain::drain;
use super::error::Error;
use super::figure::Figure;
use super::meter::{self, Meter};
use super::sample::each;
use super::work::{Completing, Failing, Made};
use super::{Bench, ask};

/// What is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Compensations {
    /// How many are enqueued before a worker starts, of each sort.
    pub workflows: u64,
    /// How many a worker drives at once.
    pub in_flight: usize,
}

/// Measures. Keys:
///
/// - `compensate.completed_per_s`: workflows of five steps that complete.
/// - `compensate.compensated_per_s`: workflows whose fifth step fails, so that all five steps are compensated: eleven
///   journal rows in place of six.
/// - `compensate.ratio`: the one over the other, of the same round.
///
/// # Errors
/// When the database does not answer, or workflows end otherwise than they should.
pub async fn measure(bench: &Bench, wanted: Compensations) -> Result<Vec<Figure>, Error> {
    let mut meter = Meter::at(&bench.place).await?;
    let (mut completed, mut compensated) = (Vec::new(), Vec::new());
    for round in 1..=bench.pace.rounds {
        bench.tell(format!("compensate: round {round} of {}", bench.pace.rounds));
        completed.push(per_second::<Completing>(bench, &mut meter, wanted, "completed").await?);
        compensated.push(per_second::<Failing>(bench, &mut meter, wanted, "compensated").await?);
    }
    let ratios = compensated.iter().zip(&completed).map(|(back, forth)| back / forth).collect();
    Ok(vec![
        Figure::of("compensate.completed_per_s", "/s", "workflows of five steps completed", completed),
        Figure::of(
            "compensate.compensated_per_s",
            "/s",
            "the fifth step fails, all five are compensated",
            compensated,
        ),
        Figure::of("compensate.ratio", "ratio", "compensated over completed", ratios),
    ])
}

async fn per_second<W: Made>(
    bench: &Bench,
    meter: &mut Meter,
    wanted: Compensations,
    status: &str,
) -> Result<f64, Error> {
    let database = bench.place.database().await?;
    ask::many::<W>(&database, wanted.workflows, None).await?;
    let drained = drain(meter, &database, wanted.workflows, wanted.in_flight).await?;
    let ended = meter::ended(&database, status).await?;
    if ended.unsigned_abs() != wanted.workflows {
        return Err(Error::Run(format!("{ended} of {} workflows ended {status}", wanted.workflows)));
    }
    bench.place.forget(database).await?;
    let per_second = each(wanted.workflows) / drained.seconds;
    bench.tell(format!("  {status}: {per_second:.0} workflows/s"));
    Ok(per_second)
}
