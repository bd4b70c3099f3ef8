//! What is left to do.

use crate::database::Database;
use crate::error::Error;

/// How many workflows are where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Unsettled {
    /// Due, and held by nobody.
    pub due: u64,
    /// Held by a worker that lives.
    pub running: u64,
    /// Held by one whose lease is over.
    pub orphaned_soon: u64,
    /// On the way back, between two attempts.
    pub compensating: u64,
    /// Waiting for a person, and tried slowly.
    pub needs_attention: u64,
    /// Waiting for a time to come.
    pub waiting: u64,
}

impl Unsettled {
    /// Whether nothing is left but what waits for a person or a time to come.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.due + self.running + self.orphaned_soon + self.compensating == 0
    }
}

pub(crate) async fn unsettled(database: &Database, kinds: Vec<String>) -> Result<Unsettled, Error> {
    let row = database
        .run("counting what is left to do", async |connection| {
            sqlx::query!(
                r#"
                select count(*) filter (where r.holder is null and r.due_at <= backstitch.clock()) as "due!",
                    count(*) filter (where i.lease_until > backstitch.clock()) as "running!",
                    count(*) filter (where i.lease_until <= backstitch.clock()) as "orphaned_soon!",
                    count(*) filter (
                        where r.holder is null and r.due_at > backstitch.clock()
                            and r.phase = 'compensating' and not r.attention
                    ) as "compensating!",
                    count(*) filter (
                        where r.holder is null and r.due_at > backstitch.clock() and r.attention
                    ) as "needs_attention!",
                    count(*) filter (
                        where r.holder is null and r.due_at > backstitch.clock()
                            and r.phase <> 'compensating' and not r.attention
                    ) as "waiting!"
                from backstitch.ready r
                    left join backstitch.incarnation i on i.incarnation_id = r.holder
                where r.kind = any ($1)
                "#,
                &kinds
            )
            .fetch_one(connection)
            .await
        })
        .await?;
    Ok(Unsettled {
        due: row.due.unsigned_abs(),
        running: row.running.unsigned_abs(),
        orphaned_soon: row.orphaned_soon.unsigned_abs(),
        compensating: row.compensating.unsigned_abs(),
        needs_attention: row.needs_attention.unsigned_abs(),
        waiting: row.waiting.unsigned_abs(),
    })
}
