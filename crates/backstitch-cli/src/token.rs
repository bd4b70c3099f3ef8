//! `backstitch token`: who may speak HTTP to the daemon?

use backstitch::{Client, Error, Token};
use backstitch_server::BearerToken;
use serde_json::json;

use crate::arguments::{TokenCommand, TokenVerb};
use crate::connect;
use crate::exit::{Exit, Failed};
use crate::output::{cell, lines, note, say, say_json, table};
use crate::settings::Settings;
use crate::time::moment;

/// Does what the verb says.
pub async fn run(settings: &Settings, command: TokenCommand) -> Result<Exit, Failed> {
    let client = connect::client(settings).await?;
    match command.verb {
        TokenVerb::Create { name, roles, kinds, json } => {
            let secret = BearerToken::mint().map_err(|error| Failed::because(&error, ""))?;
            let token = client.create_token(&name, secret.hash(), &roles, kinds.as_deref()).await?;
            if json {
                say_json(&json!({ "token": token, "bearer": secret.reveal() }))?;
            } else {
                note(&format!("token {token}; it is not shown again:"));
                say(secret.reveal())?;
            }
        }
        TokenVerb::List { json } => {
            let tokens = client.tokens().await?;
            match json {
                true => say_json(&tokens)?,
                false if tokens.is_empty() => note("no tokens; make one with `backstitch token create`"),
                false => say(&as_table(&tokens))?,
            }
        }
        TokenVerb::Revoke { token } => {
            if !client.revoke_token(token).await? {
                return Err(Failed::refused(format!(
                    "there is no token {token}; `backstitch token list` shows those there are"
                )));
            }
            say(&format!("token {token} opens nothing any more"))?;
        }
    }
    Ok(Exit::Done)
}

/// What is wrong with a daemon that others can reach and that answers nobody, and what to do about it.
pub const NONE_BEYOND_LOOPBACK: &str = "beyond loopback only tokens are answered, and there is none";
pub const MAKE_ONE: &str = "make one with `backstitch token create`, or listen on loopback";

/// Whether there is a token that opens something.
pub async fn is_any_good(client: &Client) -> Result<bool, Error> {
    Ok(client.tokens().await?.iter().any(|token| token.revoked_at.is_none()))
}

fn as_table(tokens: &[Token]) -> String {
    let mut table = table(&["ID", "NAME", "ROLES", "KINDS", "MADE", "REVOKED"]);
    for token in tokens {
        table.add_row([
            cell(token.token),
            cell(&token.name),
            cell(token.roles.iter().map(|role| role.as_str()).collect::<Vec<_>>().join(", ")),
            cell(token.kinds.as_ref().map_or_else(|| "every".to_owned(), |kinds| kinds.join(", "))),
            cell(moment(token.created_at)),
            cell(token.revoked_at.map_or_else(|| "-".to_owned(), moment)),
        ]);
    }
    lines(table)
}
