//! Who changes their mind while their start is under way?

use std::convert::Infallible;
use std::time::Duration;

use backstitch::{Client, Filter};
use backstitch_gateway::identifiers::OrganizationId;

use super::PAUSE;

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

/// Withdraws a start, if it is to be, and waits until whoever asked for it is answered.
pub async fn withdraw(client: &Client, organization: OrganizationId) -> Infallible {
    if let Some(after) = after(organization) {
        tokio::time::sleep(after).await;
        while !is_withdrawn(client, organization).await {
            tokio::time::sleep(PAUSE).await;
        }
    }
    std::future::pending().await
}

/// False: there is nothing to withdraw yet, or Postgres is down.
async fn is_withdrawn(client: &Client, organization: OrganizationId) -> bool {
    let starts = Filter {
        kind: Some("gateway.start".to_owned()),
        key: Some(format!("{organization}/1")),
        limit: 1,
        ..Filter::default()
    };
    let Ok(starts) = client.workflows(starts).await else { return false };
    let Some(start) = starts.first() else { return false };
    // Refused once it has ended: then it was too late.
    client.cancel(start.workflow, "torture", "they have changed their mind").await.is_ok()
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
