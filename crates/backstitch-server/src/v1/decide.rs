//! What may an operator decide about a workflow over HTTP? One line for each verb.

use std::pin::Pin;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use backstitch::{Answered, Client, Error, Operate, WorkflowId};
use serde::{Deserialize, Serialize};
use utoipa::openapi::path::{OperationBuilder, ParameterBuilder, ParameterIn};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, SchemaFormat, Type};
use utoipa::openapi::{Content, HttpMethod, Ref, RefOr, Required, ResponseBuilder, ResponsesBuilder};
use utoipa::{IntoResponses, OpenApi, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use uuid::Uuid;

use super::Api;
use super::look::seen;
use super::params::{Of, Sent, Text, uuid};
use crate::access::{Allowed, Caller, Decide};
use crate::openapi::{Refused, RefusedWorkflow};
use crate::problem::{PROBLEM_JSON, Problem};
use crate::refusal::Refusal;

type Answering<'a> = Pin<Box<dyn Future<Output = Result<Answered, Error>> + Send + 'a>>;

/// `POST /v1/workflows/{id}/<name>`
pub struct Verb {
    name: &'static str,
    summary: &'static str,
    decide: for<'a> fn(Operate<'a>, WorkflowId) -> Answering<'a>,
}

/// Every verb.
pub const VERBS: &[Verb] = &[
    Verb {
        name: "cancel",
        summary: "Have a workflow taken back",
        decide: |operate, workflow| Box::pin(operate.cancel(workflow)),
    },
    Verb {
        name: "retry",
        summary: "Try a waiting workflow again now",
        decide: |operate, workflow| Box::pin(operate.retry(workflow)),
    },
    Verb {
        name: "abandon",
        summary: "End a workflow that needs attention as it is",
        decide: |operate, workflow| Box::pin(operate.abandon(workflow)),
    },
    Verb {
        name: "pause",
        summary: "Hold a waiting workflow back until it is resumed, retried or cancelled",
        decide: |operate, workflow| Box::pin(operate.pause(workflow)),
    },
    Verb {
        name: "resume",
        summary: "Let a paused workflow go on",
        decide: |operate, workflow| Box::pin(operate.resume(workflow)),
    },
];

/// Who decides, and why. It is journaled.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Decision {
    /// Who
    #[schema(value_type = String, min_length = 1)]
    pub by: Text,
    /// Why
    #[schema(value_type = String, min_length = 1)]
    pub why: Text,
    /// Makes the decision once, however often it is sent
    #[serde(default, deserialize_with = "uuid")]
    pub token: Option<Uuid>,
}

impl Decision {
    /// By whom what follows is decided.
    pub fn operate<'a>(&self, client: &'a Client) -> Result<Operate<'a>, Problem> {
        for (name, said) in [("by", &self.by), ("why", &self.why)] {
            if said.as_str().trim().is_empty() {
                return Err(Refusal::invalid(format!("{name} is empty: say who decides, and why")).into());
            }
        }
        let operate = client.operate(self.by.as_str(), self.why.as_str());
        Ok(match self.token {
            Some(token) => operate.token(token),
            None => operate,
        })
    }
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
                         Sent(decision): Sent<Decision>| {
        let operate = decision.operate(&client)?;
        seen(&client, &caller, workflow_id).await?;
        let answer = (verb.decide)(operate, workflow_id).await?;
        accepted(&caller, workflow_id, answer).map(Json)
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
        .description("It can't be done as it stands; code says why, such as is_running or has_ended")
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
}

/// What a decision is answered with.
pub fn accepted(caller: &Caller, workflow_id: WorkflowId, answer: Answered) -> Result<Accepted, Problem> {
    match answer {
        Answered::Accepted => {
            // The journal has who decided, as they said; whose token it was, they can't say.
            tracing::info!(workflow.id = %workflow_id, token.name = caller.name(), "an operator decided");
            Ok(Accepted { workflow_id, answer })
        }
        Answered::NotFound => Err(Refusal::no_workflow(workflow_id).into()),
        why_not => {
            let why = format!("workflow {workflow_id} {why_not}");
            Err(Refusal::new(StatusCode::CONFLICT, why_not.as_str(), why).about(workflow_id).into())
        }
    }
}
