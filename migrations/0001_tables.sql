-- What a workflow is, what it did, who may write about it, and what a person should know.

-- The migrator makes it first, for its own table; whoever applies this file by hand needs it too.
create schema if not exists backstitch;

comment on schema backstitch is
    'Durable workflows: a row each, with an append-only journal. Write only through the functions of this schema.';

-- The one clock of all decisions. Only a test, as the owner, in a database of its own, replaces it.
create function backstitch.clock() returns timestamptz
    language sql volatile parallel safe
    set search_path = pg_catalog
    return clock_timestamp();

comment on function backstitch.clock() is 'The time by which everything is decided.';

-- Time-ordered ids keep neighbours in time neighbours in every index: random ones doubled the WAL by full-page images.
create function backstitch.uuid_v7() returns uuid
    language sql volatile parallel safe
    set search_path = pg_catalog
    return encode(
        set_bit(set_bit(
            overlay(
                uuid_send(gen_random_uuid())
                placing substring(int8send((extract(epoch from clock_timestamp()) * 1000)::bigint) from 3)
                from 1 for 6
            ), 52, 1), 53, 1),
        'hex')::uuid;

comment on function backstitch.uuid_v7() is 'A time-ordered id (RFC 9562, version 7).';

create table backstitch.workflow (
    workflow_id uuid primary key,
    kind text not null,
    version integer not null,
    key text,
    queue text not null,
    input jsonb not null,
    enqueued_at timestamptz not null,
    deadline_at timestamptz,
    status text not null default 'live',
    cause jsonb,
    output json,
    error jsonb,
    report jsonb,
    finished_at timestamptz,

    constraint kind_has_1_to_100_bytes check (octet_length(kind) between 1 and 100),
    constraint key_has_1_to_500_bytes check (octet_length(key) between 1 and 500),
    constraint status_is_known check (status in ('live', 'completed', 'compensated')),
    constraint finished_has_a_time check ((status = 'live') = (finished_at is null)),
    constraint completed_has_an_output check ((status = 'completed') = (output is not null)),
    constraint compensated_has_cause_error_and_report check (
        status <> 'compensated' or (cause is not null and error is not null and report is not null)
    )
);

comment on table backstitch.workflow is 'What was asked, and how it ended. Hardly written between.';
comment on column backstitch.workflow.kind is 'The name of the definition, such as gateway.start.';
comment on column backstitch.workflow.version is 'The version of the kind that the caller meant.';
comment on column backstitch.workflow.key is 'The idempotency key of the enqueue. Null: none was given.';
comment on column backstitch.workflow.deadline_at is 'From here on it is taken back unless it has ended. Null: never.';
comment on column backstitch.workflow.status is 'live until the end; see the view workflows for what live means.';
comment on column backstitch.workflow.cause is 'Why it was taken back. Null before, and when completed.';
comment on column backstitch.workflow.error is 'The original error. Null before, and when completed.';
comment on column backstitch.workflow.report is 'What became of each step on the way back. Null unless it went that way.';

create table backstitch.ready (
    workflow_id uuid primary key,
    kind text not null,
    queue text not null,
    priority smallint not null,
    due_at timestamptz not null,
    phase text not null default 'pending',
    attention boolean not null default false,
    holder integer,
    epoch integer not null default 0,
    orphaned text,
    cancel jsonb,
    past_pivot boolean not null default false,
    crash_charges smallint not null default 0,

    constraint phase_is_known check (phase in ('pending', 'running', 'compensating')),
    constraint priority_is_0_to_3 check (priority between 0 and 3),
    constraint orphaned_says_how check (orphaned in ('expired', 'gone'))
)
-- Claims and parks update rows in place, over and over: leave room on the page, and vacuum by count, not by share.
with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);

comment on table backstitch.ready is 'One small row per live workflow, deleted at its end: everything a claim needs.';
comment on column backstitch.ready.priority is '0 is claimed first, 3 last.';
comment on column backstitch.ready.due_at is 'Not to be claimed before. Every unfinished workflow has a holder or this.';
comment on column backstitch.ready.attention is 'A person should look: its alert is raised, and it is tried slowly.';
comment on column backstitch.ready.holder is 'The incarnation that works on it. Null: none.';
comment on column backstitch.ready.epoch is 'Counts the claims; a record of an older one is refused.';
comment on column backstitch.ready.orphaned is 'How it lost its holder in the middle: the lease expired, or the process is gone. Null: it did not.';
comment on column backstitch.ready.cancel is 'Who cancelled it, why and when. Null: nobody. Set only before the pivot and before unwinding.';
comment on column backstitch.ready.past_pivot is 'There is no way back any more.';
comment on column backstitch.ready.crash_charges is 'How many deaths of its process since its last outcome are charged to it.';

-- The claim walks (queue, kind, priority) by equality and due_at by range: waiting rows cost it nothing.
create index ready_to_claim on backstitch.ready (queue, kind, priority, due_at) where holder is null;
create index ready_by_holder on backstitch.ready (holder) where holder is not null;

create table backstitch.journal (
    workflow_id uuid not null,
    seq integer not null,
    epoch integer not null,
    incarnation integer,
    written_at timestamptz not null,
    outcome text,
    outcome_position integer,
    outcome_direction text,
    outcome_attempt integer,
    outcome_value json,
    turn text,
    turn_value json,
    intent_position integer,
    intent_direction text,
    intent_attempt integer,
    intent_step text,
    intent_version integer,
    intent_backward text,
    intent_input json,

    primary key (workflow_id, seq),
    constraint a_row_says_something check (num_nonnulls(outcome, turn, intent_position) > 0),
    constraint an_outcome_is_whole check (
        num_nonnulls(outcome, outcome_position, outcome_direction, outcome_attempt) in (0, 4)
    ),
    constraint an_intent_is_whole check (
        num_nonnulls(
            intent_position, intent_direction, intent_attempt, intent_step, intent_version, intent_backward
        ) in (0, 6)
    ),
    constraint nothing_begins_after_the_end check (
        turn not in ('completed', 'compensated') or intent_position is null
    )
)
-- Append-only: there is nothing for a vacuum to reclaim, only pages to freeze and mark visible.
with (autovacuum_vacuum_insert_scale_factor = 0.2);

comment on table backstitch.journal is
    'Append-only. A row is one stitch: how an attempt ended, whether the course turns, what begins next, in this order.';
comment on column backstitch.journal.seq is 'From 0, without gaps.';
comment on column backstitch.journal.epoch is 'Under which claim it was written.';
comment on column backstitch.journal.incarnation is 'By which life of which process. Null: by an operator.';
comment on column backstitch.journal.outcome is 'succeeded, retry, in_doubt, handed_back, failed, failed_in_doubt, rejected. Null: the row tells of no end.';
comment on column backstitch.journal.outcome_value is 'The output, or the failure. Kept as text: it decodes to the same value every time.';
comment on column backstitch.journal.turn is 'unwinding, retry, completed, compensated. Null: the course stays.';
comment on column backstitch.journal.intent_backward is 'after_all_later, independent, nothing, pivot: how the step is taken back.';
comment on column backstitch.journal.intent_input is 'The fields of the step, with its first attempt only.';

create table backstitch.incarnation (
    incarnation_id integer generated always as identity primary key,
    token uuid not null unique,
    host text not null,
    pid integer not null,
    version text not null,
    kinds text[] not null,
    began_at timestamptz not null,
    beat bigint not null default 0,
    lease_until timestamptz not null,
    died_at timestamptz,
    death text,

    constraint the_dead_have_a_death check ((died_at is null) = (death is null)),
    constraint death_is_known check (death in ('shutdown', 'expired', 'gone'))
)
with (fillfactor = 50);

comment on table backstitch.incarnation is 'One row per life of a worker process.';
comment on column backstitch.incarnation.token is 'Names the lock file that the process holds on its host.';
comment on column backstitch.incarnation.kinds is 'The kinds of workflow that it serves.';
comment on column backstitch.incarnation.beat is 'Counts its heartbeats: a burier must see the same number for a whole lease.';
comment on column backstitch.incarnation.lease_until is 'It may begin effects until then.';
comment on column backstitch.incarnation.died_at is 'From then on nothing it writes is taken. Null: it lives.';
comment on column backstitch.incarnation.death is 'shutdown: it said so. expired: its lease ended. gone: its host says so.';

create index incarnation_alive on backstitch.incarnation (incarnation_id) where died_at is null;

create table backstitch.key (
    kind text not null,
    key text not null,
    workflow_id uuid not null,
    input_hash bytea not null,

    primary key (kind, key)
);

comment on table backstitch.key is 'Which workflow a key named. Outlives the workflow''s payload.';
comment on column backstitch.key.input_hash is 'SHA-256 of the input''s canonical text: the same key with another input is an error.';

create table backstitch.alert (
    alert_id bigint generated always as identity primary key,
    workflow_id uuid not null,
    reason text not null,
    message text not null,
    raised_at timestamptz not null,
    delivered_at timestamptz,
    resolved_at timestamptz
);

comment on table backstitch.alert is 'What a person should know, written in the transaction that changed the state.';
comment on column backstitch.alert.delivered_at is 'When a daemon told somebody. Null: not yet.';
comment on column backstitch.alert.resolved_at is 'When the workflow got on by itself or ended. Null: it still needs a person.';

create index alert_to_deliver on backstitch.alert (alert_id) where delivered_at is null;
create index alert_to_resolve on backstitch.alert (workflow_id) where resolved_at is null;
