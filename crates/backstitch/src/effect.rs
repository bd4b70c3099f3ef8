//! How one attempt of a step is made on the outside, and how it ends whatever the step does.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use backstitch_core::decide::Ended;
use backstitch_core::failure::{Failure, StepError};
use backstitch_core::json::Json;
use tokio::time::{sleep_until, timeout};

use crate::attempt::Attempt;
use crate::future::{BoxFuture, catch_panic};
use crate::life::Life;
use crate::sight::{Looked, ProbeFn, Sighting};
use crate::step::{Call, RunFn};
use crate::watchdog::What;

/// Makes the attempt: until it ends, panics or times out, the lease is lost, or the shutdown's grace is over.
pub(crate) async fn perform<'a, S>(
    life: &Life,
    call: Call<'a, S>,
    timeout: Duration,
    effect: impl FnOnce(Call<'a, S>) -> BoxFuture<'a, Result<Json, StepError>>,
) -> Ended {
    if life.abort.is_cancelled() {
        return Ended::CutShort;
    }
    let attempt = call.attempt;
    let is_over = || {
        // The answer that its intent is durable may have come after the lease: too late to begin anything.
        if !life.lease.is_usable() {
            return Some(Ended::CutShort);
        }
        // What it sends now would arrive after its time.
        attempt.time_left().is_zero().then_some(Ended::TimedOut(timeout))
    };
    let _watching = life.watchdog.watch(What::Attempt(attempt.key()), timeout);
    let effect = async { concealed(ended_as(catch_panic(async { effect(call).await }).await), attempt) };
    tokio::select! {
        // The effect first: what has ended, has ended.
        biased;
        ended = unless(is_over, effect) => ended,
        () = sleep_until(attempt.deadline) => Ended::TimedOut(timeout),
        () = life.lease.lost() => Ended::CutShort,
        () = life.abort.cancelled() => Ended::CutShort,
    }
}

/// Goes on with an effect unless it is over, which is asked each time: a process that was stopped and goes on hears of what it was
/// waiting for before its timers tell that its time has passed, and what it sends then may meet what others have taken back.
async fn unless(is_over: impl Fn() -> Option<Ended>, effect: impl Future<Output = Ended>) -> Ended {
    let mut effect = pin!(effect);
    poll_fn(|context| is_over().map_or_else(|| effect.as_mut().poll(context), Poll::Ready)).await
}

/// Looks for the effect that an earlier attempt may have made, and makes it only where it does not stand. A look that comes to
/// nothing costs half of the attempt's time at most.
pub(crate) fn look_or_run<'a, S: Sync>(
    probe: ProbeFn<S>,
    run: RunFn<S>,
    call: Call<'a, S>,
) -> BoxFuture<'a, Result<Json, StepError>> {
    Box::pin(async move {
        let key = call.attempt.key();
        let looked = Looked { services: call.services, key, input: call.input, output: None };
        let look = catch_panic(async { probe(looked).await });
        let said = match timeout(call.attempt.time_left() / 2, look).await {
            Ok(Ok(Ok(Sighting::Stands(output)))) => {
                tracing::info!(%key, "the effect of an attempt in doubt stands: it is not made again");
                return Ok(output);
            }
            Ok(Ok(Ok(seen))) => seen.as_str().to_owned(),
            Ok(Ok(Err(error))) => error.to_string(),
            Ok(Err(panic)) => format!("its probe panicked: {panic}"),
            Err(_) => "its probe took too long".to_owned(),
        };
        tracing::debug!(%key, said, "the effect of an attempt in doubt is not seen to stand: it is made again");
        run(call).await
    })
}

/// What a step's own end amounts to.
pub(crate) fn ended_as(ended: Result<Result<Json, StepError>, String>) -> Ended {
    match ended {
        Ok(Ok(output)) => Ended::Succeeded(output),
        Ok(Err(error)) => Ended::Error(error.journaled()),
        Err(panic) => Ended::Panicked(panic),
    }
}

/// The same without the secrets that the attempt was told. Its output is not altered: one that shows a secret is refused.
pub(crate) fn concealed(ended: Ended, attempt: &Attempt) -> Ended {
    match ended {
        Ended::Succeeded(output) if attempt.revealed.stands_in(output.as_str()) => {
            let message = "the output of the step shows a secret in the clear: give the field the type Secret, and hand \
                           over what `attempt.seal` makes of it";
            Ended::Error(StepError::Fail(Failure::new("secret_in_output", message)))
        }
        Ended::Error(error) => Ended::Error(attempt.revealed.scrub_error(error)),
        Ended::Panicked(message) => Ended::Panicked(attempt.revealed.scrub(message)),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn an_effect_that_was_waiting_does_nothing_more_once_it_is_over() {
        for is_over in [false, true] {
            let (answer, waiting) = oneshot::channel();
            let (over, sent) = (Cell::new(false), Cell::new(false));
            let effect = async {
                waiting.await.expect("it is answered");
                sent.set(true);
                Ended::Succeeded(Json::from_journal("null"))
            };
            let stopped = async {
                tokio::task::yield_now().await;
                over.set(is_over);
                answer.send(()).expect("it waits");
            };
            let (ended, ()) = tokio::join!(unless(|| over.get().then_some(Ended::CutShort), effect), stopped);
            assert_eq!(sent.get(), !is_over);
            assert_eq!(ended == Ended::CutShort, is_over);
        }
    }
}
