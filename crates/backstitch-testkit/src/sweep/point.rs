//! Where is a workflow hurt, and how?

use std::fmt;

use crate::cut::Moment;

/// What happens at a boundary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hurt {
    Killed,
    KilledTwice,
    Cut,
    Cancelled,
    /// The world is hurt, in this way.
    World(&'static str),
}

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Forward,
    /// Cancelled when the last step has succeeded.
    Back,
}

/// Where, and what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Point {
    pub way: Way,
    /// From 0: from its first word on, or, on the way back, from the one that would have been its last.
    pub boundary: u32,
    pub moment: Moment,
    pub hurt: Hurt,
}

/// Each once, but for what can't happen there.
pub(super) fn points(forward: u32, back: u32, faults: &[&'static str]) -> Vec<Point> {
    let mut points = Vec::new();
    for (way, boundaries) in [(Way::Forward, forward), (Way::Back, back)] {
        for boundary in 0..boundaries {
            for moment in [Moment::BeforeStatement, Moment::BeforeAnswer] {
                for hurt in [Hurt::Killed, Hurt::KilledTwice, Hurt::Cut, Hurt::Cancelled] {
                    // Cancelled once is enough.
                    if way == Way::Forward || hurt != Hurt::Cancelled {
                        points.push(Point { way, boundary, moment, hurt });
                    }
                }
            }
            // Before an answer it has not begun; and with the last one, or where the end is refused, nothing begins that the
            // world could hurt.
            if boundary + 1 < boundaries && (way, boundary) != (Way::Back, 0) {
                let hurt = |fault: &&'static str| Hurt::World(fault);
                let at = |hurt| Point { way, boundary, moment: Moment::BeforeAnswer, hurt };
                points.extend(faults.iter().map(hurt).map(at));
            }
        }
    }
    points
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { boundary, .. } = self;
        let moment = match self.moment {
            Moment::BeforeStatement => "before Postgres has heard it",
            Moment::BeforeAnswer => "before Postgres has answered",
        };
        let way = match self.way {
            Way::Forward => "on the way forward",
            Way::Back => "on the way back",
        };
        match self.hurt {
            Hurt::Killed => write!(f, "killed at boundary {boundary} {way}, {moment}"),
            Hurt::KilledTwice => {
                write!(f, "killed, and again in the recovery, at boundary {boundary} {way}, {moment}")
            }
            Hurt::Cut => write!(f, "cut off at boundary {boundary} {way}, {moment}"),
            Hurt::Cancelled => write!(f, "cancelled at boundary {boundary} {way}, {moment}"),
            Hurt::World(fault) => write!(f, "{fault:?} from boundary {boundary} {way} on"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worker_is_hurt_everywhere_and_the_world_where_something_begins() {
        let points = points(2, 3, &["nonsense"]);
        let of_the_world = |point: &&Point| matches!(point.hurt, Hurt::World(_));
        assert_eq!(points.iter().filter(|point| !of_the_world(point)).count(), 2 * 2 * 4 + 3 * 2 * 3);
        let told: Vec<String> = points.iter().filter(of_the_world).map(Point::to_string).collect();
        let at = |place| format!("\"nonsense\" from boundary {place} on");
        assert_eq!(told, [at("0 on the way forward"), at("1 on the way back")]);
        let Some(first) = points.first() else { panic!("there are some") };
        assert_eq!(
            first.to_string(),
            "killed at boundary 0 on the way forward, before Postgres has heard it"
        );
    }
}
