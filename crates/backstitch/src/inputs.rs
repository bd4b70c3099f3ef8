//! Does an input fit its kind? Asked at the door, by whoever has the kind's code: else only a worker finds out.

use std::collections::HashMap;

use backstitch_core::json::{Json, JsonError};

use crate::workflow::Workflow;

/// What the inputs of some kinds look like.
///
/// ```
/// # use backstitch::*;
/// # #[derive(serde::Serialize, serde::Deserialize)]
/// # struct Publish { report: String, token: Secret }
/// # impl Workflow<()> for Publish {
/// #     const KIND: &'static str = "report.publish";
/// #     const RECOVERY: Recovery = Recovery::Resume;
/// #     type Output = ();
/// #     fn steps(_: &mut Steps<()>) {}
/// #     async fn run(self, _: &Flow<()>) -> Result<(), WorkflowError> { Ok(()) }
/// # }
/// # fn main() -> Result<(), JsonError> {
/// let inputs = Inputs::new().of::<(), Publish>();
/// let clear = Json::parse(r#"{"report": "2026-11", "token": "open sesame"}"#, limits::INPUT_BYTES_MAX)?;
/// let refused = inputs.check("report.publish", &clear).expect_err("a secret is never passed as its text");
/// assert!(refused.to_string().contains("never the text itself"));
/// inputs.check("somebody.elses", &clear)?; // whose code is not here may take anything
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    checks: HashMap<&'static str, Check>,
}

type Check = fn(&Json) -> Result<(), JsonError>;

impl Inputs {
    /// Those of no kind.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// And those of this kind, which stands on the services `S`.
    #[must_use]
    pub fn of<S, W: Workflow<S>>(mut self) -> Self {
        self.checks.insert(W::KIND, |input| input.decode::<W>().map(drop));
        self
    }

    /// Whether what a kind takes is known here.
    #[must_use]
    pub fn knows(&self, kind: &str) -> bool {
        self.checks.contains_key(kind)
    }

    /// Whether the kind takes this. A kind that is not known here may take anything.
    ///
    /// # Errors
    /// What does not fit, and where. Of a text in the place of a [`Secret`](crate::Secret) nothing is quoted.
    pub fn check(&self, kind: &str, input: &Json) -> Result<(), JsonError> {
        self.checks.get(kind).map_or(Ok(()), |check| check(input))
    }
}
