//! Who changes their mind while their start is under way?

use std::convert::Infallible;
use std::sync::Mutex;
use std::time::Duration;

use backstitch::{Answered, Client, Filter, WorkflowId};
use backstitch_gateway::identifiers::OrganizationId;

use super::{PAUSE, lock};

/// Somebody withdraws within this time: a start takes longer than a half of it, so that each of its steps is hit, and at times
/// what follows its end.
const WITHIN: Duration = Duration::from_millis(400);

/// After how long a start is withdrawn. None: it is not. Two of three are, as the random name of their organisation says: so
/// many are taken back in an hour on fast machines, too, on which most of what is asked for are starts and stops.
pub fn after(organization: OrganizationId) -> Option<Duration> {
    let (high, low) = organization.uuid().as_u64_pair();
    let share = u32::try_from(low & 0xff).expect("a byte");
    (!high.is_multiple_of(3)).then(|| WITHIN * share / 0xff)
}

/// Withdraws a start, if it is to be, and waits until whoever asked for it is answered. `accepted`: where the promise is kept
/// that it is taken back.
pub async fn withdraw(
    client: &Client,
    organization: OrganizationId,
    accepted: &Mutex<Vec<WorkflowId>>,
) -> Infallible {
    if let Some(after) = after(organization) {
        tokio::time::sleep(after).await;
        loop {
            match withdrawn(client, organization).await {
                Some((start, Answered::Accepted)) => break lock(accepted).push(start),
                // Refused once it has ended: then it was too late.
                Some(_) => break,
                None => tokio::time::sleep(PAUSE).await,
            }
        }
    }
    std::future::pending().await
}

/// What came of the withdrawal of which start. None: there is nothing to withdraw yet, or Postgres is down.
async fn withdrawn(client: &Client, organization: OrganizationId) -> Option<(WorkflowId, Answered)> {
    let starts = Filter {
        kind: Some("gateway.start".to_owned()),
        key: Some(format!("{organization}/1")),
        limit: 1,
        ..Filter::default()
    };
    let start = client.workflows(starts).await.ok()?.first()?.workflow;
    let answered = client.cancel(start, "torture", "they have changed their mind").await.ok()?;
    Some((start, answered))
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn two_of_three_starts_are_withdrawn_at_any_time() {
        let starts = 2_000;
        let after: Vec<Duration> = (0..starts).filter_map(|_| after(Uuid::new_v4().into())).collect();
        assert!((starts * 3 / 5..starts * 3 / 4).contains(&after.len()), "{} of {starts}", after.len());
        assert!(
            after.iter().any(|after| *after < WITHIN / 10)
                && after.iter().any(|after| *after > WITHIN * 9 / 10)
        );
    }
}
