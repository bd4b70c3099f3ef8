//! How callers follow workflows, a thousand at the price of one: who follows, and when one look is taken for all.
//!
//! While anybody follows, one task of the client reads what was written to the journals that are followed, in one statement
//! a poll, and hands it on. Appends are not announced, for every workflow would pay for that: an event is told within a poll.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use backstitch_core::id::WorkflowId;
use futures_core::Stream;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

use crate::database::Database;
use crate::error::Error;
use crate::events::{Begun, Event, EventRow};
use crate::outage::Outage;
use crate::timing::{LOOKS_SHARE, jittered};

/// How many rows one look reads for one follower, who is not looked for again before it took them. The whole journal of
/// most workflows, and a few kilobytes of memory for each who follows.
const ROWS_AT_ONCE: usize = 32;

/// Before the first row.
const NOTHING: i32 = -1;

/// Those who follow through one client and its clones. When it is dropped, nothing of it goes on.
#[derive(Debug)]
pub(crate) struct Follows {
    database: Database,
    poll: Duration,
    following: Arc<Following>,
    gone: DropGuard,
}

impl Follows {
    /// Of nobody yet.
    pub(crate) fn new(database: Database, poll: Duration) -> Self {
        let gone = CancellationToken::new().drop_guard();
        Self { database, poll, following: Arc::default(), gone }
    }

    /// From behind this row on.
    fn register(&self, workflow: WorkflowId, after: i32) -> Place {
        let (to, told) = mpsc::channel(ROWS_AT_ONCE);
        let mut registered = self.following.lock();
        registered.last += 1;
        let number = registered.last;
        registered.of.insert(number, Follower { workflow: workflow.0, after, to });
        let is_attended = std::mem::replace(&mut registered.attended, true);
        drop(registered);
        if !is_attended {
            let attendant = Attendant {
                database: self.database.clone(),
                poll: self.poll,
                following: Arc::clone(&self.following),
                outage: Outage::default(),
            };
            let gone = self.gone.token().clone();
            tokio::spawn(async move { gone.run_until_cancelled(attendant.attend()).await });
        }
        self.following.wanted.notify_one();
        Place { following: Arc::clone(&self.following), number, told }
    }
}

/// What happens to a workflow, as it is written down: see [`Client::follow`](crate::Client::follow).
#[derive(Debug)]
pub struct Events {
    follows: Arc<Follows>,
    workflow: WorkflowId,
    /// None: not asked yet, or to be asked for anew.
    place: Option<Place>,
    begun: Begun,
    /// The last row that was read.
    read: i32,
    /// Rows up to this one are not told.
    after: i32,
    /// Rows taken since it last waited.
    taken: usize,
    is_over: bool,
}

impl Events {
    /// From the beginning on.
    pub(crate) fn of(follows: Arc<Follows>, workflow: WorkflowId) -> Self {
        let begun = Begun::default();
        Self {
            follows,
            workflow,
            place: None,
            begun,
            read: NOTHING,
            after: NOTHING,
            taken: 0,
            is_over: false,
        }
    }

    /// Tells only what comes after the event of this [`seq`](Event::seq): the last one that was heard of.
    #[must_use]
    pub fn after(self, seq: u32) -> Self {
        Self { after: i32::try_from(seq).unwrap_or(i32::MAX), ..self }
    }

    /// The next event. None: the workflow has ended, and all is told.
    pub async fn next(&mut self) -> Option<Result<Event, Error>> {
        std::future::poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }

    /// None: it is to be asked again.
    fn heard(&mut self, told: Option<Told>) -> Option<Result<Event, Error>> {
        match told {
            Some(Told::Row(row)) => {
                self.taken += 1;
                self.read = row.seq;
                let event = self.begun.tell(self.workflow, &row);
                self.is_over = event.as_ref().map_or(true, Event::is_end);
                (event.is_err() || row.seq > self.after).then_some(event)
            }
            Some(Told::Over { is_known }) => {
                self.is_over = true;
                (!is_known).then(|| Err(Error::NotFound(self.workflow)))
            }
            Some(Told::Failed(error)) => {
                self.is_over = true;
                Some(Err(Error::Shared(error)))
            }
            // The runtime on which somebody looked has ended, and others may go on.
            None => {
                self.place = None;
                None
            }
        }
    }
}

impl Stream for Events {
    type Item = Result<Event, Error>;

    /// # Panics
    /// Outside of a runtime of tokio.
    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        while !this.is_over {
            let Self { follows, workflow, read, .. } = this;
            let place = this.place.get_or_insert_with(|| follows.register(*workflow, *read));
            let told = place.told.poll_recv(context);
            if told.is_pending() && std::mem::take(&mut this.taken) == ROWS_AT_ONCE {
                // There was more than one look hands on.
                place.following.wanted.notify_one();
            }
            if let Some(event) = this.heard(ready!(told)) {
                return Poll::Ready(Some(event));
            }
        }
        this.place = None;
        Poll::Ready(None)
    }
}

/// Where one who follows is told. When it is dropped, nobody looks for it any more.
#[derive(Debug)]
struct Place {
    following: Arc<Following>,
    number: u64,
    told: mpsc::Receiver<Told>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.following.lock().of.remove(&self.number);
    }
}

/// What one who follows is told.
#[derive(Debug, Clone)]
enum Told {
    Row(Arc<EventRow>),
    /// There is no row more, and will be none.
    Over {
        /// False: there is no such workflow.
        is_known: bool,
    },
    /// Nobody can look.
    Failed(Arc<Error>),
}

#[derive(Debug, Default)]
struct Following {
    registered: Mutex<Registered>,
    /// Somebody is new, or can take more.
    wanted: Notify,
}

#[derive(Debug, Default)]
struct Registered {
    of: HashMap<u64, Follower>,
    last: u64,
    /// A task looks for them.
    attended: bool,
}

#[derive(Debug)]
struct Follower {
    workflow: Uuid,
    /// The last row that it was handed.
    after: i32,
    to: mpsc::Sender<Told>,
}

impl Following {
    fn lock(&self) -> MutexGuard<'_, Registered> {
        self.registered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is to be read: of each journal, behind which row. Whoever has not taken what it was handed is left alone.
    fn wanted(&self) -> (Vec<Uuid>, Vec<i32>) {
        let registered = self.lock();
        let can_take = registered.of.values().filter(|follower| follower.to.capacity() == ROWS_AT_ONCE);
        let distinct: BTreeSet<_> = can_take.map(|follower| (follower.workflow, follower.after)).collect();
        distinct.into_iter().unzip()
    }

    fn hand_on(&self, read: &BTreeMap<(Uuid, i32), Vec<Told>>) {
        let mut registered = self.lock();
        for follower in registered.of.values_mut() {
            let news = read.get(&(follower.workflow, follower.after));
            for told in news.into_iter().flatten() {
                // One that came meanwhile may not have taken all of the look before.
                if follower.to.try_send(told.clone()).is_err() {
                    break;
                }
                if let Told::Row(row) = told {
                    follower.after = row.seq;
                }
            }
        }
    }

    fn tell_all(&self, told: &Told) {
        let followers = std::mem::take(&mut self.lock().of);
        for follower in followers.into_values() {
            // One that has not taken what it was handed is told when it asks anew.
            let _ = follower.to.try_send(told.clone());
        }
    }
}

/// Looks for all who follow.
struct Attendant {
    database: Database,
    poll: Duration,
    following: Arc<Following>,
    outage: Outage,
}

impl Attendant {
    /// Until nobody follows.
    async fn attend(mut self) {
        while !self.following.lock().of.is_empty() {
            let began = Instant::now();
            let (workflows, after) = self.following.wanted();
            if !workflows.is_empty() {
                self.look(workflows, after).await;
            }
            let least = began.elapsed() * (LOOKS_SHARE - 1);
            let next_look = Instant::now() + jittered(self.poll).max(least);
            sleep(least).await;
            tokio::select! {
                () = sleep_until(next_look) => {}
                () = self.following.wanted.notified() => {}
            }
        }
    }

    async fn look(&mut self, workflows: Vec<Uuid>, after: Vec<i32>) {
        match read(&self.database, workflows, after).await {
            Ok(read) => {
                self.outage.ends();
                self.following.hand_on(&read);
            }
            Err(error) if error.is_transient() => {
                if self.outage.is_news() {
                    tracing::warn!(%error, "looking for what happened failed, looking on");
                }
            }
            Err(error) => self.following.tell_all(&Told::Failed(Arc::new(error))),
        }
    }
}

impl Drop for Attendant {
    /// Also when its runtime ends, and some who follow are on another: they begin anew.
    fn drop(&mut self) {
        let mut registered = self.following.lock();
        registered.attended = false;
        let followers = std::mem::take(&mut registered.of);
        drop(registered);
        drop(followers);
    }
}

/// What stands behind these rows of these journals, a few rows of each. Nothing of one that goes on and has none.
async fn read(
    database: &Database,
    workflows: Vec<Uuid>,
    after: Vec<i32>,
) -> Result<BTreeMap<(Uuid, i32), Vec<Told>>, Error> {
    let rows = database
        .run("looking for what happened", async |connection| {
            sqlx::query!(
                r#"
                select followed.workflow_id as "workflow_id!", followed.after as "after!", j.seq as "seq?",
                    j.written_at as "written_at?", j.incarnation as "incarnation?", j.outcome as "outcome?",
                    j.outcome_position as "outcome_position?", j.outcome_direction as "outcome_direction?",
                    j.outcome_attempt as "outcome_attempt?", j.failure as "failure?: serde_json::Value",
                    j.turn as "turn?", j.turn_value as "turn_value?: serde_json::Value",
                    j.intent_position as "intent_position?", j.intent_direction as "intent_direction?",
                    j.intent_attempt as "intent_attempt?", j.intent_step as "intent_step?",
                    exists (
                        select from backstitch.workflow w where w.workflow_id = followed.workflow_id
                    ) as "is_known!"
                from unnest($1::uuid[], $2::integer[]) followed (workflow_id, after)
                    left join lateral (
                        select j.seq, j.written_at, j.incarnation, j.outcome, j.outcome_position, j.outcome_direction,
                            j.outcome_attempt,
                            case when j.outcome <> 'succeeded' then j.outcome_value end as failure,
                            j.turn, j.turn_value, j.intent_position, j.intent_direction, j.intent_attempt, j.intent_step
                        from backstitch.journal j
                        where j.workflow_id = followed.workflow_id
                            and j.seq > followed.after
                        order by j.seq
                        limit $3
                    ) j on true
                where j.seq is not null
                    -- In the same snapshot: the row in ready goes with the last one of the journal.
                    or not exists (
                        select from backstitch.ready r where r.workflow_id = followed.workflow_id
                    )
                "#,
                &workflows,
                &after,
                i64::try_from(ROWS_AT_ONCE).unwrap_or(i64::MAX)
            )
            .fetch_all(connection)
            .await
        })
        .await?;
    let mut read: BTreeMap<_, Vec<EventRow>> = BTreeMap::new();
    let mut told = BTreeMap::new();
    for row in rows {
        let key = (row.workflow_id, row.after);
        let (Some(seq), Some(written_at)) = (row.seq, row.written_at) else {
            told.insert(key, vec![Told::Over { is_known: row.is_known }]);
            continue;
        };
        read.entry(key).or_default().push(EventRow {
            seq,
            written_at,
            incarnation: row.incarnation,
            outcome: row.outcome,
            outcome_position: row.outcome_position,
            outcome_direction: row.outcome_direction,
            outcome_attempt: row.outcome_attempt,
            failure: row.failure,
            turn: row.turn,
            turn_value: row.turn_value,
            intent_position: row.intent_position,
            intent_direction: row.intent_direction,
            intent_attempt: row.intent_attempt,
            intent_step: row.intent_step,
        });
    }
    for (key, mut rows) in read {
        rows.sort_by_key(|row| row.seq);
        told.insert(key, rows.into_iter().map(|row| Told::Row(Arc::new(row))).collect());
    }
    Ok(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a database that is nowhere.
    fn follows() -> Arc<Follows> {
        let database = Database::connect_lazily(sqlx::postgres::PgConnectOptions::new().socket("/nowhere"));
        Arc::new(Follows::new(database, Duration::from_millis(1)))
    }

    fn workflow(number: u128) -> WorkflowId {
        WorkflowId(Uuid::from_u128(number))
    }

    #[tokio::test(start_paused = true)]
    async fn when_nobody_follows_any_more_nobody_looks() {
        let follows = follows();
        let mut events = Events::of(Arc::clone(&follows), workflow(1));
        let nothing = tokio::time::timeout(Duration::from_secs(1), events.next()).await;
        assert!(nothing.is_err() && follows.following.lock().attended);
        drop(events);
        assert_eq!(follows.following.wanted(), (vec![], vec![]));
        let ended = async {
            while follows.following.lock().attended {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), ended).await.expect("the task ends");
    }

    #[tokio::test]
    async fn many_at_the_same_place_are_read_for_once_and_one_that_is_behind_not_at_all() {
        let follows = follows();
        let (first, second) = (follows.register(workflow(1), 3), follows.register(workflow(1), 3));
        let other = follows.register(workflow(1), NOTHING);
        let of_one = vec![workflow(1).0, workflow(1).0];
        assert_eq!(follows.following.wanted(), (of_one, vec![NOTHING, 3]));
        let over = BTreeMap::from([((workflow(1).0, 3), vec![Told::Over { is_known: true }])]);
        follows.following.hand_on(&over);
        assert_eq!([&first, &second, &other].map(|place| place.told.len()), [1, 1, 0]);
        assert_eq!(follows.following.wanted(), (vec![workflow(1).0], vec![NOTHING]));
    }
}
