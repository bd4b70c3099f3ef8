//! How often does a client ask the database?

use std::time::Duration;

use backstitch::{Client, Database, Timing};
use backstitch_testkit::cut::Line;
use backstitch_testkit::world::World;

/// A client whose statements are counted.
pub struct Counted {
    pub client: Client,
    pub line: Line,
}

impl Counted {
    pub async fn new(world: &World, poll: Duration) -> Self {
        let line = world.line();
        let options = line.options((*world.pool.connect_options()).clone()).application_name("waiting");
        let database = Database::connect_with(options).await.expect("the line holds");
        Self { client: Client::new(database).timing(Timing { poll, ..Timing::DEFAULT }), line }
    }
}
