//! What does `backstitch token` want to know?

use backstitch::Role;
use clap::{Args, Subcommand};
use uuid::Uuid;

use super::exit_codes;

/// `token`
#[derive(Debug, Args)]
pub struct TokenCommand {
    /// What to do
    #[command(subcommand)]
    pub verb: TokenVerb,
}

/// What to do with the tokens of the HTTP API.
#[derive(Debug, Subcommand)]
pub enum TokenVerb {
    /// Make a token, and print it: this once, for only its hash is kept
    #[command(after_help = concat!(
        "Examples:\n",
        "  backstitch token create platform --role produce --kind gateway.start,gateway.stop\n",
        "  backstitch token create ops --role operate > ops.token\n",
        "  backstitch token create reports --role produce --role read    asks for workflows, and lists them\n\n",
        exit_codes!(0 1 2)
    ))]
    Create {
        /// Who has it, for people: 1 to 100 bytes
        name: String,
        /// read: looks. produce: asks for workflows and waits for them. operate: looks and decides. Said more than once: all of that
        #[arg(long = "role", value_name = "ROLE", value_parser = parse_role, value_delimiter = ',', required = true)]
        roles: Vec<Role>,
        /// Only workflows of these kinds exist for it, up to 16 [default: of every kind]
        #[arg(long = "kind", value_name = "KIND,…", value_delimiter = ',')]
        kinds: Option<Vec<String>>,
        /// Print an object with its id and the token
        #[arg(long)]
        json: bool,
    },
    /// List the tokens there are and were
    #[command(after_help = concat!("Example:\n  backstitch token list\n\n", exit_codes!(0 1 2)))]
    List {
        /// Print an array of JSON objects
        #[arg(long)]
        json: bool,
    },
    /// Let a token open nothing any more, from the next request on
    #[command(after_help = concat!(
        "Example:\n  backstitch token revoke 0193b2f0-7c1e-7d55-a3f0-2a7f5c1e9b10\n\n", exit_codes!(0 1 2 5)
    ))]
    Revoke {
        /// Its id, as `token list` shows it; not the token itself
        #[arg(value_name = "ID", value_parser = parse_id)]
        token: Uuid,
    },
}

fn parse_id(text: &str) -> Result<Uuid, String> {
    // Not the token itself, of which no part is to be repeated where others may read it.
    text.parse().map_err(|_| "give the id of a token, a UUID, as `backstitch token list` shows it".to_owned())
}

fn parse_role(word: &str) -> Result<Role, String> {
    word.parse()
}
