//! Which tokens open the HTTP API, and how far. Here only their hashes are known.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::client::Client;
use crate::error::Error;

/// The SHA-256 of a token.
pub type TokenHash = [u8; 32];

/// What whoever has a token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Look.
    Read,
    /// Ask for workflows, and wait for them.
    Produce,
    /// Look and decide.
    Operate,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 3] = [Self::Read, Self::Produce, Self::Operate];

    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Produce => "produce",
            Self::Operate => "operate",
        }
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::str::FromStr for Role {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let known = || Self::ALL.map(Self::as_str).join(", ");
        let found = Self::ALL.into_iter().find(|role| role.as_str() == word);
        found.ok_or_else(|| format!("{word:?} is no role; there are {}", known()))
    }
}

/// A token, without what opens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Token {
    /// Its id.
    pub token: Uuid,
    /// Who has it, for people.
    pub name: String,
    /// The first of its roles.
    pub role: Role,
    /// What it is good for: what any of these may. One at least.
    pub roles: Vec<Role>,
    /// Only workflows of these kinds exist for it. None: of every kind.
    pub kinds: Option<Vec<String>>,
    /// Since when.
    pub created_at: DateTime<Utc>,
    /// Until when it was good. None: it is.
    pub revoked_at: Option<DateTime<Utc>>,
}

impl Client {
    /// Lets whoever has the token of this hash in, as each of these roles. Its id.
    ///
    /// # Errors
    /// When the database does not answer, or the name, the roles or the kinds can't be taken.
    pub async fn create_token(
        &self,
        name: &str,
        hash: TokenHash,
        roles: &[Role],
        kinds: Option<&[String]>,
    ) -> Result<Uuid, Error> {
        let (name, kinds) = (name.to_owned(), kinds.map(<[String]>::to_vec));
        let roles: Vec<_> = roles.iter().map(|role| role.as_str().to_owned()).collect();
        self.database
            .run("making a token", async |connection| {
                sqlx::query_scalar!(
                    r#"select backstitch.create_token($1, $2, $3::text[], $4) as "token!""#,
                    name,
                    &hash[..],
                    &roles,
                    kinds.as_deref()
                )
                .fetch_one(connection)
                .await
            })
            .await
            .map_err(Error::said_by_contract)
    }

    /// Lets a token open nothing any more. False: there is none of this id.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn revoke_token(&self, token: Uuid) -> Result<bool, Error> {
        self.database
            .run("revoking a token", async |connection| {
                sqlx::query_scalar!(r#"select backstitch.revoke_token($1) as "found!""#, token)
                    .fetch_one(connection)
                    .await
            })
            .await
    }

    /// Every token there is or was, the newest first.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn tokens(&self) -> Result<Vec<Token>, Error> {
        let rows = self
            .database
            .run("listing tokens", async |connection| {
                sqlx::query_as!(
                    TokenRow,
                    r#"
                    select token_id as "token_id!", name as "name!", roles as "roles!", kinds,
                        created_at as "created_at!", revoked_at
                    from backstitch.tokens
                    order by token_id desc
                    "#
                )
                .fetch_all(connection)
                .await
            })
            .await?;
        Ok(rows.into_iter().filter_map(TokenRow::token).collect())
    }

    /// The token of this hash. None: there is none, or it was revoked.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn find_token(&self, hash: TokenHash) -> Result<Option<Token>, Error> {
        let row = self
            .database
            .run("looking for a token", async |connection| {
                sqlx::query_as!(
                    TokenRow,
                    r#"
                    select token_id as "token_id!", name as "name!", roles as "roles!", kinds,
                        created_at as "created_at!", revoked_at
                    from backstitch.token_of($1)
                    "#,
                    &hash[..]
                )
                .fetch_optional(connection)
                .await
            })
            .await?;
        Ok(row.and_then(TokenRow::token))
    }
}

struct TokenRow {
    token_id: Uuid,
    name: String,
    roles: Vec<String>,
    kinds: Option<Vec<String>>,
    created_at: DateTime<Utc>,
    revoked_at: Option<DateTime<Utc>>,
}

impl TokenRow {
    /// A role that a later version gave it and this one does not know opens nothing here. None: it has no other.
    fn token(self) -> Option<Token> {
        let Self { token_id, name, roles, kinds, created_at, revoked_at } = self;
        let roles: Vec<Role> = roles.iter().filter_map(|role| role.parse().ok()).collect();
        let role = *roles.first()?;
        Some(Token { token: token_id, name, role, roles, kinds, created_at, revoked_at })
    }
}
