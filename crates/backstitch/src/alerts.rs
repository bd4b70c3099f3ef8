//! Which alerts has nobody been told of yet?
//!
//! Told twice: written into a log, and taken by a webhook. Each is marked by itself, so that neither takes an alert from the
//! other. An alert that needs nobody any more, because its workflow got on or ended, is not told.

use backstitch_core::id::WorkflowId;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::client::Client;
use crate::error::Error;
use crate::view::AlertView;

/// Alerts that are read at once: a few hundred bytes each, and few in all but a mass failure.
const PAGE: i64 = 1_000;

impl Client {
    /// Open alerts that no daemon has logged yet, the oldest first: at most a thousand.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn alerts_to_log(&self) -> Result<Vec<AlertView>, Error> {
        let rows = self
            .database
            .run("reading alerts to log", async |connection| {
                sqlx::query_as!(
                    AlertRow,
                    r#"
                    select a.alert_id, a.workflow_id, w.kind, a.reason, a.message, a.raised_at
                    from backstitch.alert a
                        join backstitch.workflow w on w.workflow_id = a.workflow_id
                    where a.logged_at is null
                        and a.resolved_at is null
                    order by a.alert_id
                    limit $1
                    "#,
                    PAGE
                )
                .fetch_all(connection)
                .await
            })
            .await?;
        Ok(rows.into_iter().map(AlertView::from).collect())
    }

    /// These alerts are in a log.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn alerts_logged(&self, alerts: &[i64]) -> Result<(), Error> {
        let alerts = alerts.to_vec();
        self.database
            .run("marking alerts as logged", async |connection| {
                sqlx::query!(
                    "update backstitch.alert set logged_at = backstitch.clock() where alert_id = any ($1)",
                    &alerts
                )
                .execute(connection)
                .await
                .map(|_| ())
            })
            .await
    }

    /// Open alerts that no webhook has taken yet, the oldest first: at most a thousand, from the one after this number on.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn alerts_to_deliver(&self, after: i64) -> Result<Vec<AlertView>, Error> {
        let rows = self
            .database
            .run("reading alerts to deliver", async |connection| {
                sqlx::query_as!(
                    AlertRow,
                    r#"
                    select a.alert_id, a.workflow_id, w.kind, a.reason, a.message, a.raised_at
                    from backstitch.alert a
                        join backstitch.workflow w on w.workflow_id = a.workflow_id
                    where a.delivered_at is null
                        and a.resolved_at is null
                        and a.alert_id > $1
                    order by a.alert_id
                    limit $2
                    "#,
                    after,
                    PAGE
                )
                .fetch_all(connection)
                .await
            })
            .await?;
        Ok(rows.into_iter().map(AlertView::from).collect())
    }

    /// A webhook has taken this alert.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn alert_delivered(&self, alert: i64) -> Result<(), Error> {
        self.database
            .run("marking an alert as delivered", async |connection| {
                sqlx::query!(
                    "update backstitch.alert set delivered_at = backstitch.clock() where alert_id = $1",
                    alert
                )
                .execute(connection)
                .await
                .map(|_| ())
            })
            .await
    }
}

struct AlertRow {
    alert_id: i64,
    workflow_id: Uuid,
    kind: String,
    reason: String,
    message: String,
    raised_at: DateTime<Utc>,
}

impl From<AlertRow> for AlertView {
    fn from(row: AlertRow) -> Self {
        Self {
            alert: row.alert_id,
            workflow: WorkflowId(row.workflow_id),
            kind: row.kind,
            reason: row.reason,
            message: row.message,
            raised_at: row.raised_at,
        }
    }
}
