//! Where is a workflow hurt, and how?

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
    pub boundary: u32,
    pub moment: Moment,
    pub hurt: Hurt,
}

/// Each once, but for what can't happen there.
pub(super) fn points(forward: u32, back: u32, faults: &[&'static str]) -> Vec<Point> {
    let mut points = Vec::new();
    for way in [Way::Forward, Way::Back] {
        let boundaries = match way {
            Way::Forward => 0..forward,
            // What comes before is the same as on the way forward.
            Way::Back => forward.saturating_sub(1)..back,
        };
        let end = boundaries.end;
        for boundary in boundaries {
            for moment in [Moment::BeforeStatement, Moment::BeforeAnswer] {
                for hurt in [Hurt::Killed, Hurt::KilledTwice, Hurt::Cut, Hurt::Cancelled] {
                    // Cancelled once is enough.
                    if way == Way::Forward || hurt != Hurt::Cancelled {
                        points.push(Point { way, boundary, moment, hurt });
                    }
                }
            }
            // With the last one nothing begins that the world could hurt; and before an answer it has not begun.
            if boundary + 1 < end {
                let hurt = |fault: &&'static str| Hurt::World(fault);
                let at = |hurt| Point { way, boundary, moment: Moment::BeforeAnswer, hurt };
                points.extend(faults.iter().map(hurt).map(at));
            }
        }
    }
    points
}
