//! `backstitch verify`: does the outside agree with the journal, and what stands there that belongs to no workflow?

mod orphans;

use backstitch::{Client, Error, Expected, Probes, Verdict, Verified, VerifiedStep, Workflow, WorkflowId};
use backstitch_gateway::{Edge, StartGateway, StopGateway, probes};
use comfy_table::Color;
use tempfile::TempDir;

use crate::arguments::{EdgeArguments, Verify};
use crate::edge;
use crate::exit::{Exit, Failed};
use crate::output::{cell, clean, lines, note, say, say_json, table};
use crate::progress::waiting;
use crate::reach::{Reach, reach};
use crate::settings::Settings;

/// It may take some seconds.
const ORPHANS_SOUGHT: &str = "looking at every record, vhost, route and allocation …";

/// Looks at what one workflow left, or for what belongs to no workflow.
pub async fn run(settings: &Settings, arguments: Verify) -> Result<Exit, Failed> {
    let Verify { workflow, json, edge, .. } = arguments;
    let reach = reach(settings).await?;
    let Some(workflow) = workflow else {
        let found = match &reach {
            Reach::Database(client) => {
                let place = Place::of(settings, edge, client)?;
                waiting(ORPHANS_SOUGHT, orphans::look(client, &place.edge)).await?
            }
            Reach::Server(server) => waiting(ORPHANS_SOUGHT, server.orphans()).await?,
        };
        return orphans::tell(&found, json);
    };
    let verified = match &reach {
        Reach::Database(client) => verified(settings, edge, client, workflow).await?,
        Reach::Server(server) => server.verify(workflow).await?,
    };
    match json {
        true => say_json(&verified)?,
        false if verified.steps.is_empty() => note("no step has begun: there is nothing to look for"),
        false => say(&told(&verified))?,
    }
    Ok(exit_of(&verified.steps))
}

/// Whoever can't look ends with an error, but what was seen to differ is worse.
fn exit_of(steps: &[VerifiedStep]) -> Exit {
    let is_any = |verdict| steps.iter().any(|step| step.verdict == verdict);
    match () {
        () if is_any(Verdict::Differs) => Exit::NeedsAttention,
        () if is_any(Verdict::NotSeen) => Exit::Error,
        () => Exit::Done,
    }
}

async fn verified(
    settings: &Settings,
    edge: EdgeArguments,
    client: &Client,
    workflow: WorkflowId,
) -> Result<Verified, Failed> {
    let view = client.workflow(workflow).await?.ok_or(Error::NotFound(workflow))?;
    // What this program has no code of needs no edge to look at.
    if ![StartGateway::KIND, StopGateway::KIND].contains(&view.kind.as_str()) {
        return Ok(Probes::new(client.clone(), ()).verify(workflow).await?);
    }
    let place = Place::of(settings, edge, client)?;
    Ok(probes(client.clone(), place.edge).verify(workflow).await?)
}

/// An edge to look at. What nginx keeps for whoever changes it lies elsewhere meanwhile: nothing is made here.
struct Place {
    edge: Edge,
    _directory: TempDir,
}

impl Place {
    fn of(settings: &Settings, said: EdgeArguments, client: &Client) -> Result<Self, Failed> {
        let directory = tempfile::tempdir()
            .map_err(|error| Failed::because(&error, "there is no temporary directory"))?;
        let config = edge::settle(said, settings.gateway_config(), directory.path(), None)?;
        let edge = Edge::new(config, client.database().clone());
        let edge = edge.map_err(|error| Failed::because(&error, ""))?;
        Ok(Self { edge, _directory: directory })
    }
}

fn told(verified: &Verified) -> String {
    let mut table = table(&["#", "STEP", "BY THE JOURNAL", "OUTSIDE", "VERDICT", ""]);
    for step in &verified.steps {
        let expected = match step.expected {
            Expected::Either => format!("{}: may stand", step.status.replace('_', " ")),
            should => format!("{}: {}", step.status.replace('_', " "), should.as_str()),
        };
        let verdict = cell(step.verdict.as_str().replace('_', " "));
        table.add_row([
            cell(step.position),
            cell(&step.step),
            cell(expected),
            cell(step.sighting.as_deref().unwrap_or("-")),
            match step.verdict {
                Verdict::Agrees => verdict.fg(Color::Green),
                Verdict::Differs | Verdict::NotSeen => verdict.fg(Color::Red),
                Verdict::Undecided | Verdict::NotProbed => verdict.fg(Color::DarkGrey),
            },
            cell(step.says.as_deref().unwrap_or_default()),
        ]);
    }
    let head =
        format!("{}, {}: {}", verified.workflow, verified.kind, verified.status.as_str().replace('_', " "));
    format!("{}\n\n{}", clean(&head), lines(table))
}
