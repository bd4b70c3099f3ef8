//! `backstitch migrate`: the schemas of the engine and of the pool, up to date.

use backstitch::Client;

use crate::arguments::Migrate;
use crate::exit::{Exit, Failed};
use crate::output::say;
use crate::progress::waiting;
use crate::settings::Settings;
use crate::{connect, gateway};

const UP_TO_DATE: &str = "the schemas backstitch and gateway are up to date";

/// Brings both schemas up to date. Says so only if this version can work with what is there then.
pub async fn run(settings: &Settings, arguments: &Migrate) -> Result<Exit, Failed> {
    let database = connect::connect(settings).await?;
    if arguments.check {
        backstitch::check_migrated(&database).await?;
        gateway::check_migrated(&Client::new(database)).await?;
        say(UP_TO_DATE)?;
        return Ok(Exit::Done);
    }
    let migrating = async {
        backstitch::migrate(&database).await?;
        // A newer version's schema is left alone, and refused here.
        backstitch::check_migrated(&database).await?;
        backstitch_gateway::migrate(database.pool()).await.map_err(|error| {
            Failed::because(&error, "what was applied before stays applied: mend it and run it again")
        })
    };
    waiting("migrating …", migrating).await?;
    say(UP_TO_DATE)?;
    Ok(Exit::Done)
}
