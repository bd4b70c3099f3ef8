//! What did the steps of a workflow leave outside, or may they have left?

use backstitch::{Status, StepView};

use super::happened::{is_under_way, last_try, times};
use crate::seen::Seen;

/// From the first step to the last.
pub fn told(seen: &Seen) -> Vec<String> {
    let mut sentences: Vec<_> = match seen.workflow.status {
        Status::Completed => {
            return vec!["What was asked for: it is completed, and nothing is taken back.".to_owned()];
        }
        _ => seen.steps.iter().filter_map(|step| standing(seen, step)).collect(),
    };
    if sentences.is_empty() {
        sentences.push(match seen.workflow.status {
            Status::Compensated => "Nothing: all that may have happened was taken back.".to_owned(),
            Status::Abandoned => "Nothing that is ever taken back.".to_owned(),
            _ => "Nothing yet.".to_owned(),
        });
    }
    sentences
}

/// None: the step left nothing that is ever taken back.
fn standing(seen: &Seen, step: &StepView) -> Option<String> {
    let name = &step.step;
    let backward = step.backward.as_str();
    match step.status.as_str() {
        "compensated" | "rejected" => None,
        "skipped" => {
            Some(format!("{name}: may still stand; an operator said that it need not be taken back."))
        }
        _ if backward == "nothing" => None,
        "completed" if backward == "pivot" => {
            Some(format!("{name}: stands for good; there is no way back from it."))
        }
        "completed" => Some(format!("{name}: stands.")),
        "compensating" => {
            let (tries, last) = last_try(seen, step, "compensate")?;
            let tried = match last.failure.as_ref() {
                _ if is_under_way(seen, last) => "it is being compensated right now".to_owned(),
                Some(failure) => format!("to compensate it was tried {}: {failure}", times(tries)),
                None => format!("to compensate it was tried {}", times(tries)),
            };
            Some(format!("{name}: may still stand; {tried}."))
        }
        _ => Some(format!("{name}: may stand, as it is not known how far it came.")),
    }
}
