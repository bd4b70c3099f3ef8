//! How a journal is read that was too long for the claim to bring along: in pages, before the first decision.
//!
//! No lock is needed: whoever held the workflow before wrote its last record before letting go of it, and nobody but its
//! holder writes the next. If it is taken from this worker meanwhile, its next record is refused, as ever.

use std::ops::ControlFlow;
use std::time::Duration;

use backstitch_core::history::History;
use backstitch_core::id::{Seq, WorkflowId};
use backstitch_core::limits::SLOW_RETRY;
use tokio::time::sleep;

use crate::claim::{Departure, Hold};
use crate::error::Error;
use crate::journal::{After, Attention};
use crate::life::{Life, Shop};
use crate::outage::Outage;
use crate::park;
use crate::replay;

/// How many pages a worker reads at once. They come over the connections that recovery, parks and transactional steps
/// share, of which at times one is left: it is not to be busy with long journals alone.
pub(crate) const AT_ONCE: usize = 1;

/// The most rows of a page: of the smallest, 200 KB, so that the bytes are what bounds most pages.
const ROWS_MAX: i32 = 1000;

/// The bytes with which a page ends. Its last row may reach beyond, by an input and an output of the largest size: a network of
/// 5 Mbit/s carries that within the deadline of a call, and taking it in keeps a thread for a few milliseconds.
const BYTES_MAX: i32 = 1024 * 1024;

/// How long after an error of the database the same page is asked for again.
const AGAIN: Duration = Duration::from_millis(250);

/// Reads the whole journal of a workflow that this worker holds. Err: why it can't be understood. Break: the worker let go
/// of it, or it belongs to somebody else.
pub(crate) async fn read<S>(
    shop: &Shop<S>,
    life: &Life,
    hold: &Hold,
) -> ControlFlow<Departure, Result<History, String>> {
    let mut history = History::default();
    let mut outage = Outage::default();
    loop {
        let turn = shop.pages.acquire().await.expect("it is never closed");
        if life.lease.is_dead() {
            return ControlFlow::Break(Departure::Fenced);
        }
        if life.lets_go() {
            drop(turn);
            let parked = park::park(shop, life, hold, Duration::ZERO, After::default());
            return ControlFlow::Break(parked.await);
        }
        let page = page(shop, hold.workflow, history.seq_next()).await;
        drop(turn);
        match page {
            Ok(stitches) if stitches.is_empty() => {
                tracing::debug!(
                    workflow.id = %hold.workflow, workflow.kind = hold.kind, rows = %history.seq_next(),
                    "read a long journal"
                );
                return ControlFlow::Continue(Ok(history));
            }
            Ok(stitches) => {
                outage.ends();
                if let Err(message) = replay::take_in_page(&mut history, &stitches) {
                    return ControlFlow::Continue(Err(message));
                }
            }
            Err(error) if !error.is_transient() => {
                // Such as a right that this role has not: whoever can give it has to be told.
                let message = format!("its journal can't be read: {error}");
                let after = After::raising(Attention::new("journal_unreadable", message));
                return ControlFlow::Break(park::park(shop, life, hold, SLOW_RETRY, after).await);
            }
            Err(error) => {
                if outage.is_news() {
                    tracing::warn!(
                        workflow.id = %hold.workflow, workflow.kind = hold.kind, %error,
                        "reading a long journal again"
                    );
                }
                sleep(AGAIN).await;
            }
        }
    }
}

/// The stitches from this seq on, as many as a page has. None: that was all.
async fn page<S>(shop: &Shop<S>, workflow: WorkflowId, from: Seq) -> Result<Vec<String>, Error> {
    shop.database
        .run("reading a page of a journal", async |connection| {
            sqlx::query_scalar!(
                r#"select stitch as "stitch!" from backstitch.journal_page($1, $2, $3, $4) stitch"#,
                workflow.0,
                from.0.cast_signed(),
                ROWS_MAX,
                BYTES_MAX
            )
            .fetch_all(connection)
            .await
        })
        .await
}
