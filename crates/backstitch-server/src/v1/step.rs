//! What may an operator decide about one step over HTTP?

use axum::Json;
use axum::extract::State;
use backstitch::{Client, Json as Encoded, limits};
use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;
use uuid::Uuid;

use super::decide::{Accepted, Decision, accepted};
use super::look::seen;
use super::params::{OfStep, Sent, Text};
use crate::access::{Allowed, Decide};
use crate::openapi::{Refused, RefusedWorkflow};
use crate::problem::{Problem, ProblemBody};
use crate::refusal::Refusal;

/// Skip a step
///
/// It need not be taken back any more, and the way back goes on without it. The report names who said so.
#[utoipa::path(
    post,
    path = "/workflows/{id}/steps/{position}/skip",
    tag = "decide",
    params(
        ("id" = Uuid, Path, description = "Which workflow"),
        ("position" = u32, Path, description = "Which step, from 0")
    ),
    request_body = Decision,
    responses(
        (status = 200, description = "It is so, or was so already", body = Accepted),
        (status = 409, description = "It can't be done as it stands; code says why", body = ProblemBody, content_type = "application/problem+json"),
        Refused, RefusedWorkflow
    ),
)]
pub async fn skip_step(
    Allowed { caller, .. }: Allowed<Decide>,
    State(client): State<Client>,
    OfStep(workflow_id, position): OfStep,
    Sent(decision): Sent<Decision>,
) -> Result<Json<Accepted>, Problem> {
    let operate = decision.operate(&client)?;
    seen(&client, &caller, workflow_id).await?;
    accepted(&caller, workflow_id, operate.skip_step(workflow_id, position).await?).map(Json)
}

/// What became of a step, and who looked.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Found {
    /// Who
    #[schema(value_type = String, min_length = 1)]
    by: Text,
    /// What was seen
    #[schema(value_type = String, min_length = 1)]
    why: Text,
    /// Makes the decision once, however often it is sent
    #[serde(default)]
    token: Option<Uuid>,
    /// Whether its effect is there
    happened: bool,
    /// What it would have handed over; only where it happened
    #[serde(default)]
    #[schema(value_type = Option<serde_json::Value>)]
    output: Option<Box<RawValue>>,
}

/// Say what became of a step in doubt
///
/// Going forward, what happened is handed to the function and what did not is run again. On the way back only what happened is
/// taken back.
#[utoipa::path(
    post,
    path = "/workflows/{id}/steps/{position}/resolve",
    tag = "decide",
    params(
        ("id" = Uuid, Path, description = "Which workflow"),
        ("position" = u32, Path, description = "Which step, from 0")
    ),
    request_body = Found,
    responses(
        (status = 200, description = "It is so", body = Accepted),
        (status = 409, description = "It can't be done as it stands; code says why", body = ProblemBody, content_type = "application/problem+json"),
        Refused, RefusedWorkflow
    ),
)]
pub async fn resolve(
    Allowed { caller, .. }: Allowed<Decide>,
    State(client): State<Client>,
    OfStep(workflow_id, position): OfStep,
    Sent(found): Sent<Found>,
) -> Result<Json<Accepted>, Problem> {
    let Found { by, why, token, happened, output } = found;
    let happened = handed_over(happened, output)?;
    let operate = Decision { by, why, token }.operate(&client)?;
    seen(&client, &caller, workflow_id).await?;
    accepted(&caller, workflow_id, operate.resolve(workflow_id, position, happened).await?).map(Json)
}

/// What a step handed over. None: it did not happen.
fn handed_over(happened: bool, output: Option<Box<RawValue>>) -> Result<Option<Encoded>, Problem> {
    match (happened, output) {
        (true, output) => {
            let encoded = Encoded::encode(&output, limits::OUTCOME_BYTES_MAX);
            Ok(Some(encoded.map_err(|error| Refusal::invalid(format!("the output {error}")))?))
        }
        (false, None) => Ok(None),
        (false, Some(_)) => Err(Refusal::invalid("what did not happen has no output: leave it out").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::params::Named;
    use super::*;

    #[test]
    fn an_output_is_handed_over_to_the_last_digit() {
        let digits = "123456789012345678901234567890.10";
        let sent =
            format!(r#"{{"by": "ada", "why": "I looked", "happened": true, "output": {{"n": {digits}}}}}"#);
        let Named(found): Named<Found> = serde_json::from_str(&sent).expect("it can be read");
        let output =
            handed_over(found.happened, found.output).expect("it can be taken").expect("it happened");
        assert_eq!(output.as_str().replace(' ', ""), format!(r#"{{"n":{digits}}}"#));
        let none = handed_over(true, None).expect("it can be taken").expect("it happened");
        assert_eq!(none.as_str(), "null");
    }
}
