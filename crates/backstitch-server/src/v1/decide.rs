//! What may an operator decide about a workflow over HTTP? One line for each verb.

use std::pin::Pin;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use backstitch::{Answered, Client, Error, WorkflowId};
use serde::{Deserialize, Serialize};
use utoipa::openapi::path::{OperationBuilder, ParameterBuilder, ParameterIn};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, SchemaFormat, Type};
use utoipa::openapi::security::SecurityRequirement;
use utoipa::openapi::{Content, HttpMethod, Ref, RefOr, Required, ResponseBuilder, ResponsesBuilder};
use utoipa::{IntoResponses, OpenApi, ToSchema};
use utoipa_axum::router::OpenApiRouter;

use super::Api;
use super::look::seen;
use super::params::{Of, Sent, Text};
use crate::access::{Allowed, Decide};
use crate::openapi::{Refused, RefusedWorkflow};
use crate::problem::{PROBLEM_JSON, Problem};
use crate::refusal::Refusal;

type Answering<'a> = Pin<Box<dyn Future<Output = Result<Answered, Error>> + Send + 'a>>;

/// `POST /v1/workflows/{id}/<name>`
pub struct Verb {
    name: &'static str,
    summary: &'static str,
    ask: for<'a> fn(&'a Client, WorkflowId, &'a str, &'a str) -> Answering<'a>,
}

/// Every verb.
pub const VERBS: &[Verb] = &[
    Verb {
        name: "cancel",
        summary: "Have a workflow taken back",
        ask: |client, workflow, by, why| Box::pin(client.cancel(workflow, by, why)),
    },
    Verb {
        name: "retry",
        summary: "Try a waiting workflow again now",
        ask: |client, workflow, by, why| Box::pin(client.retry(workflow, by, why)),
    },
];

/// Who decides, and why. It is journaled.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Decision {
    /// Who
    #[schema(value_type = String, min_length = 1)]
    by: Text,
    /// Why
    #[schema(value_type = String, min_length = 1)]
    why: Text,
}

/// It is so, or was so already.
#[derive(Debug, Serialize, ToSchema)]
pub struct Accepted {
    #[schema(value_type = Uuid)]
    workflow_id: WorkflowId,
    /// Always `accepted`
    #[schema(value_type = String)]
    answer: Answered,
}

/// Adds a verb, and its description.
pub fn add(routes: OpenApiRouter<Api>, verb: &'static Verb) -> OpenApiRouter<Api> {
    let path = format!("/workflows/{{id}}/{}", verb.name);
    let handler = async |Allowed { caller, .. }: Allowed<Decide>,
                         State(client): State<Client>,
                         Of(workflow_id): Of,
                         Sent(Decision { by, why }): Sent<Decision>| {
        for (name, said) in [("by", &by), ("why", &why)] {
            if said.as_str().trim().is_empty() {
                return Err(Refusal::invalid(format!("{name} is empty: say who decides, and why")).into());
            }
        }
        seen(&client, &caller, workflow_id).await?;
        let answer = (verb.ask)(&client, workflow_id, by.as_str(), why.as_str()).await?;
        // Who decides says what they like; whose token it was, they don't.
        tracing::info!(workflow.id = %workflow_id, token.name = caller.name(), verb = verb.name, ?answer, "an operator decided");
        accepted(workflow_id, answer).map(Json)
    };
    let mut routes = routes.route(&path, post(handler));
    let description = routes.get_openapi_mut();
    description.merge(Bodies::openapi());
    description.paths.add_path_operation(path, vec![HttpMethod::Post], described(verb));
    routes
}

#[derive(OpenApi)]
#[openapi(components(schemas(Decision, Accepted)))]
struct Bodies;

fn described(verb: &Verb) -> OperationBuilder {
    let of = |name: &str| Some(RefOr::Ref(Ref::from_schema_name(name)));
    let uuid = ObjectBuilder::new()
        .schema_type(Type::String)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Uuid)))
        .build();
    let id = ParameterBuilder::new()
        .name("id")
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .schema(Some(uuid));
    let body = RequestBodyBuilder::new()
        .required(Some(Required::True))
        .content("application/json", Content::new(of("Decision")));
    let accepted = ResponseBuilder::new()
        .description("It is so, or was so already")
        .content("application/json", Content::new(of("Accepted")));
    let refused = ResponseBuilder::new()
        .description("It can't be done as it stands; code says why: past_the_pivot, is_compensating, is_running or has_ended")
        .content(PROBLEM_JSON, Content::new(of("Problem")));
    let responses = ResponsesBuilder::new()
        .response("200", accepted)
        .response("409", refused)
        .responses_from_iter(Refused::responses())
        .responses_from_iter(RefusedWorkflow::responses());
    OperationBuilder::new()
        .operation_id(Some(verb.name))
        .tag("decide")
        .summary(Some(verb.summary))
        .parameter(id)
        .request_body(Some(body.build()))
        .responses(responses.build())
        .security(SecurityRequirement::new("bearer", Vec::<String>::new()))
}

fn accepted(workflow_id: WorkflowId, answer: Answered) -> Result<Accepted, Problem> {
    let (code, state) = match answer {
        Answered::Accepted => return Ok(Accepted { workflow_id, answer }),
        Answered::NotFound => return Err(Refusal::no_workflow(workflow_id).into()),
        Answered::PastThePivot => ("past_the_pivot", "is past its pivot: there is no way back, only forward"),
        Answered::IsCompensating => ("is_compensating", "is being taken back already"),
        Answered::IsRunning => ("is_running", "is being worked at right now: there is nothing to hurry"),
        Answered::HasEnded => ("has_ended", "has ended"),
    };
    let why = format!("workflow {workflow_id} {state}");
    Err(Refusal::new(StatusCode::CONFLICT, code, why).about(workflow_id).into())
}
