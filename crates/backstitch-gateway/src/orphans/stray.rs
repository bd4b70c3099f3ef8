//! Is what a start made nobody's any more, by what is known of the start, its allocation and its stop?

use backstitch::{Known, Status};

use crate::identifiers::Owner;
use crate::pool::{Allocation, AllocationStatus};

/// None: it is in order. `made`: the allocation of the start, if it made one. `known`: what is known of a stop.
pub(super) fn why_stray(
    start: Known,
    made: Option<&Allocation>,
    known: impl Fn(Owner) -> Known,
) -> Option<String> {
    if start.is_live() {
        return None;
    }
    let Some(made) = made else {
        return Some(format!("{}, and has no gateway", told("its workflow", start)));
    };
    match (made.status, made.stopping) {
        (AllocationStatus::Ended, _) => Some("its gateway was given back".to_owned()),
        (_, Some(stop)) => {
            let stopping = known(stop);
            (!stopping.is_live()).then(|| told(&format!("workflow {stop}, which was to stop it,"), stopping))
        }
        (_, None) => match start {
            // What has completed may be removed from the journal long before it is stopped.
            Known::Is(Status::Completed) | Known::Was => None,
            start => Some(told("its workflow", start)),
        },
    }
}

fn told(whom: &str, known: Known) -> String {
    match known {
        Known::Is(status) => format!("{whom} has ended as {status}"),
        Known::Was => format!("{whom} has ended and was removed"),
        Known::Never => format!("{whom} is not known here"),
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn stop() -> Owner {
        Uuid::from_u128(2).into()
    }

    fn allocation(status: AllocationStatus, stopping: Option<Owner>) -> Allocation {
        Allocation {
            gateway: 7.try_into().unwrap(),
            upstream: "127.0.0.1:9".parse().unwrap(),
            organization: Uuid::from_u128(3).into(),
            owner: Uuid::from_u128(1).into(),
            stopping,
            status,
            hostname: None,
        }
    }

    #[test]
    fn what_a_start_made_is_in_order_while_it_is_under_way_or_serves() {
        use AllocationStatus::{Active, Ended, Stopping};
        use Known::{Is, Never, Was};
        use Status::{Abandoned, Compensated, Compensating, Completed, NeedsAttention, Pending, Running};
        let cases = [
            (Is(Pending), None, Never, true),
            (Is(Running), None, Never, true),
            (Is(Compensating), Some((Active, None)), Never, true),
            (Is(NeedsAttention), Some((Active, None)), Never, true),
            (Is(Completed), Some((Active, None)), Never, true),
            (Was, Some((Active, None)), Never, true),
            (Is(Completed), Some((Stopping, Some(stop()))), Is(Running), true),
            (Was, Some((Stopping, Some(stop()))), Is(NeedsAttention), true),
            (Is(Compensated), None, Never, false),
            (Never, None, Never, false),
            (Was, None, Never, false),
            (Is(Completed), Some((Ended, Some(stop()))), Is(Completed), false),
            (Was, Some((Ended, Some(stop()))), Was, false),
            (Is(Compensated), Some((Ended, None)), Never, false),
            (Is(Abandoned), Some((Active, None)), Never, false),
            (Is(Completed), Some((Stopping, Some(stop()))), Is(Abandoned), false),
            (Is(Completed), Some((Stopping, Some(stop()))), Never, false),
            (Never, Some((Active, None)), Never, false),
        ];
        for (start, made, stopping, in_order) in cases {
            let made = made.map(|(status, stopping)| allocation(status, stopping));
            let why = why_stray(start, made.as_ref(), |_| stopping);
            assert_eq!(why.is_none(), in_order, "{start:?} {made:?} {stopping:?}: {why:?}");
        }
    }

    #[test]
    fn the_reason_names_who_has_ended() {
        let made = allocation(AllocationStatus::Stopping, Some(stop()));
        let why = why_stray(Known::Is(Status::Completed), Some(&made), |_| Known::Is(Status::Abandoned));
        let said =
            "workflow 00000000-0000-0000-0000-000000000002, which was to stop it, has ended as abandoned";
        assert_eq!(why.as_deref(), Some(said));
    }
}
