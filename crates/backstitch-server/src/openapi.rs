//! What does the API say of itself?

use axum::Router;
use axum::http::{HeaderValue, header};
use axum::middleware::map_response;
use axum::response::Response;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::{IntoResponses, Modify, OpenApi};
use utoipa_swagger_ui::{Config, SwaggerUi};

use crate::access::Access;
use crate::problem::ProblemBody;

/// What any request may be told instead of what it hoped for.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "described, never made")]
pub enum Refused {
    /// The request can't be taken; the same one never will
    #[response(status = 400, content_type = "application/problem+json")]
    Invalid(ProblemBody),
    /// No token was shown, or one that opens nothing
    #[response(status = 401, content_type = "application/problem+json")]
    Unknown(ProblemBody),
    /// The token is not for this
    #[response(status = 403, content_type = "application/problem+json")]
    Forbidden(ProblemBody),
    /// The body did not arrive in time
    #[response(status = 408, content_type = "application/problem+json")]
    TooSlow(ProblemBody),
    /// The body is too large
    #[response(status = 413, content_type = "application/problem+json")]
    TooLarge(ProblemBody),
    /// The token asked too often, or the address showed too many that nobody knows: see Retry-After
    #[response(status = 429, content_type = "application/problem+json")]
    TooMany(ProblemBody),
    /// A fault of the daemon or its database, or a workflow that needs attention
    #[response(status = 500, content_type = "application/problem+json")]
    Internal(ProblemBody),
    /// Not now: see Retry-After
    #[response(status = 503, content_type = "application/problem+json")]
    Unavailable(ProblemBody),
}

/// The key is taken.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "described, never made")]
#[response(
    status = 409,
    description = "The key names a workflow with another input: workflow_id says which",
    content_type = "application/problem+json"
)]
pub struct RefusedKey(ProblemBody);

/// The input does not fit.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "described, never made")]
#[response(
    status = 422,
    description = "The kind does not take this input: invalid_input, where the daemon has the kind's code",
    content_type = "application/problem+json"
)]
pub struct RefusedInput(ProblemBody);

/// There is no such workflow.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "described, never made")]
#[response(
    status = 404,
    description = "There is no such workflow, for this token",
    content_type = "application/problem+json"
)]
pub struct RefusedWorkflow(ProblemBody);

#[derive(OpenApi)]
#[openapi(
    info(title = "Backstitch", description = "Durable workflows on Postgres whose steps can be taken back."),
    servers((url = "/v1")),
    components(schemas(ProblemBody)),
    modifiers(&Bearer)
)]
struct Frame;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("bst_…").build();
        document
            .components
            .get_or_insert_default()
            .add_security_scheme("bearer", SecurityScheme::Http(bearer));
    }
}

/// The document without its paths. Every one of them asks for a token, or none does.
pub fn frame(access: Access) -> utoipa::openapi::OpenApi {
    let mut document = Frame::openapi();
    document.security =
        (access == Access::Tokens).then(|| vec![SecurityRequirement::new("bearer", Vec::<String>::new())]);
    document
}

/// The page may load what comes from the daemon, and talk to the daemon; nothing else. Its look is set by its scripts.
const PAGE_POLICY: &str =
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'";

/// `GET /openapi.json`, and the page that makes it a form to fill in.
pub fn routes(document: utoipa::openapi::OpenApi) -> Router {
    // Unless told not to, the page shows the document to a validator on the internet.
    let config = Config::default().validator_url("none");
    let page: Router = SwaggerUi::new("/docs").url("/openapi.json", document).config(config).into();
    page.layer(map_response(async |mut response: Response| {
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(PAGE_POLICY));
        response
    }))
}
