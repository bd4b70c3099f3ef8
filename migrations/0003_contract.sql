-- What anyone may ask: enqueue, cancel, retry, and see.

create function backstitch.enqueue(
    p_kind text,
    p_input jsonb,
    p_key text default null,
    p_queue text default 'default',
    p_priority integer default 1,
    p_run_at timestamptz default null,
    p_deadline_at timestamptz default null,
    p_version integer default 1
)
    returns uuid
    language plpgsql
    set search_path = pg_catalog
as $$
declare
    v_workflow uuid := backstitch.uuid_v7();
    v_now timestamptz := backstitch.clock();
    v_hash bytea;
    v_first record;
begin
    if coalesce(octet_length(p_kind), 0) not between 1 and 100 then
        raise exception 'a kind has 1 to 100 bytes' using errcode = 'BSI01';
    end if;
    if p_input is null then
        raise exception 'kind %: input is null; give a JSON value, such as ''{}''', p_kind using errcode = 'BSI01';
    end if;
    if octet_length(p_input::text) > 262144 then
        raise exception 'kind %: input is % bytes of JSON, more than the 262144 allowed here',
            p_kind, octet_length(p_input::text)
            using errcode = 'BSI01', hint = 'keep large data elsewhere and pass its address';
    end if;
    -- Only a text of twice 64 brackets can be that deep.
    if octet_length(p_input::text) >= 128 and jsonb_path_exists(p_input, 'strict $.**{64}.type() ? (@ == "array" || @ == "object")') then
        raise exception 'kind %: input is nested deeper than the 64 levels allowed', p_kind using errcode = 'BSI01';
    end if;
    if octet_length(p_key) not between 1 and 500 then
        raise exception 'kind %: a key has 1 to 500 bytes', p_kind using errcode = 'BSI01';
    end if;
    if p_priority is null or p_priority not between 0 and 3 then
        raise exception 'kind %: priority is %, not 0 (first) to 3 (last)', p_kind, coalesce(p_priority::text, 'null')
            using errcode = 'BSI01';
    end if;
    -- A time that a client can read back: infinity, and most of what Postgres can count, is none.
    if p_run_at not between '1970-01-01' and '9999-12-31' or p_deadline_at not between '1970-01-01' and '9999-12-31' then
        raise exception 'kind %: run_at and deadline_at lie between the years 1970 and 9999; leave out what has no bound', p_kind
            using errcode = 'BSI01';
    end if;
    if octet_length(coalesce(p_queue, '')) not between 1 and 100 then
        raise exception 'kind %: a queue has 1 to 100 bytes', p_kind using errcode = 'BSI01';
    end if;

    if p_key is not null then
        v_hash := sha256(convert_to(p_input::text, 'UTF8'));
        -- Two statements: the usual one-statement upsert returns no row when it loses a race.
        insert into backstitch.key (kind, key, workflow_id, input_hash)
        values (p_kind, p_key, v_workflow, v_hash)
        on conflict do nothing;
        if not found then
            select k.workflow_id, k.input_hash
            into strict v_first
            from backstitch.key k
            where k.kind = p_kind
                and k.key = p_key;
            if v_first.input_hash <> v_hash then
                raise exception 'kind %: key "%" already names workflow %, which has another input',
                    p_kind, p_key, v_first.workflow_id
                    using errcode = 'BSK01', detail = v_first.workflow_id::text,
                        hint = 'use the same input to join that workflow, or another key for a new one';
            end if;
            return v_first.workflow_id;
        end if;
    end if;

    insert into backstitch.workflow (workflow_id, kind, version, key, queue, input, enqueued_at, deadline_at)
    values (v_workflow, p_kind, coalesce(p_version, 1), p_key, p_queue, p_input, v_now, p_deadline_at);
    insert into backstitch.ready (workflow_id, kind, queue, priority, due_at)
    values (v_workflow, p_kind, p_queue, p_priority, coalesce(p_run_at, v_now));
    perform backstitch.wake();
    return v_workflow;
end
$$;

comment on function backstitch.enqueue(text, jsonb, text, text, integer, timestamptz, timestamptz, integer) is
    'Asks for a workflow, in the caller''s transaction. The same key and input give the same workflow; the same key with another input is error BSK01.';

-- A hint that work is there. Through a gate: one notification at a time is on its way to a commit, because commits that
-- notify take turns (64 enqueuers fell from 22,000/s to 4,800/s without it). A lost hint costs one poll.
create function backstitch.wake() returns void
    language sql volatile
    set search_path = pg_catalog
begin atomic
    select case
        when pg_try_advisory_xact_lock(backstitch.fence_class() + 1, 0) then pg_notify('backstitch_ready', '')
    end;
end;

comment on function backstitch.wake() is 'Hints to the workers that work is there.';

create function backstitch.cancel(p_workflow uuid, p_by text, p_why text)
    returns text
    language plpgsql
    set search_path = pg_catalog
as $$
declare
    v_ready record;
begin
    if coalesce(p_by, '') = '' or coalesce(p_why, '') = '' then
        raise exception 'cancel %: say who cancels and why', p_workflow using errcode = 'BSI01';
    end if;
    update backstitch.ready r
    set cancel = jsonb_build_object('by', left(p_by, 200), 'why', left(p_why, 2000)),
        due_at = case when r.holder is null then least(r.due_at, backstitch.clock()) else r.due_at end
    where r.workflow_id = p_workflow
        and r.phase in ('pending', 'running')
        and not r.past_pivot
        and r.cancel is null;
    if found then
        perform pg_notify('backstitch_cancel', p_workflow::text);
        return 'accepted';
    end if;
    select r.phase, r.past_pivot, r.cancel into v_ready from backstitch.ready r where r.workflow_id = p_workflow;
    if not found then
        perform from backstitch.workflow w where w.workflow_id = p_workflow;
        return case when found then 'has_ended' else 'not_found' end;
    end if;
    return case
        when v_ready.past_pivot then 'past_the_pivot'
        when v_ready.phase = 'compensating' then 'is_compensating'
        else 'accepted'
    end;
end
$$;

comment on function backstitch.cancel(uuid, text, text) is
    'Asks that a workflow be taken back: accepted (also when it already was), or why not: past_the_pivot, is_compensating, has_ended, not_found.';

create function backstitch.retry(p_workflow uuid, p_by text, p_why text)
    returns text
    language plpgsql
    set search_path = pg_catalog
as $$
declare
    v_ready record;
begin
    if coalesce(p_by, '') = '' or coalesce(p_why, '') = '' then
        raise exception 'retry %: say who retries and why', p_workflow using errcode = 'BSI01';
    end if;
    select r.holder, r.epoch into v_ready
    from backstitch.ready r
    where r.workflow_id = p_workflow
    for update;
    if not found then
        perform from backstitch.workflow w where w.workflow_id = p_workflow;
        return case when found then 'has_ended' else 'not_found' end;
    end if;
    if v_ready.holder is not null then
        return 'is_running';
    end if;
    -- Nobody holds it, and its row is locked: nobody else appends.
    insert into backstitch.journal (workflow_id, seq, epoch, written_at, turn, turn_value)
    select p_workflow, coalesce(max(j.seq) + 1, 0), v_ready.epoch, backstitch.clock(), 'retry',
        json_build_object('by', left(p_by, 200), 'why', left(p_why, 2000))
    from backstitch.journal j
    where j.workflow_id = p_workflow;
    update backstitch.ready r
    set due_at = backstitch.clock(),
        -- Epoch 1 tells its holder that there is no journal to read; now there is one.
        epoch = greatest(r.epoch, 1)
    where r.workflow_id = p_workflow;
    perform backstitch.wake();
    return 'accepted';
end
$$;

comment on function backstitch.retry(uuid, text, text) is
    'Makes a waiting workflow due now, journaled with who and why: accepted, or is_running, has_ended, not_found.';

create view backstitch.workflows as
select w.workflow_id,
    w.kind,
    w.version,
    w.key,
    w.queue,
    case
        when w.status <> 'live' then w.status
        when r.attention then 'needs_attention'
        else r.phase
    end as status,
    w.input,
    w.output,
    w.cause,
    w.error,
    w.report,
    w.enqueued_at,
    w.finished_at,
    w.deadline_at,
    case when r.holder is null then r.due_at end as due_at,
    r.holder,
    r.epoch,
    r.cancel,
    r.orphaned,
    r.crash_charges,
    r.workflow_id is not null
        and not exists (
            select from backstitch.incarnation i where i.died_at is null and r.kind = any (i.kinds)
        ) as unserved
from backstitch.workflow w
    left join backstitch.ready r on r.workflow_id = w.workflow_id;

comment on view backstitch.workflows is
    'Every workflow: pending, running, compensating, needs_attention, completed or compensated. unserved: no living worker serves its kind.';

-- Grouped, not joined: without fresh statistics a join of a journal with itself took a time quadratic in its length.
create view backstitch.attempts as
select j.workflow_id,
    e.position,
    max(j.intent_step) filter (where e.begins) as step,
    e.direction,
    e.attempt,
    j.workflow_id || '/' || e.position || '/' || e.direction as key,
    max(j.epoch) filter (where e.begins) as epoch,
    max(j.incarnation) filter (where e.begins) as incarnation,
    max(j.written_at) filter (where e.begins) as began_at,
    max(j.written_at) filter (where e.ends) as ended_at,
    max(j.outcome) filter (where e.ends) as outcome,
    (array_agg(j.outcome_value) filter (where e.ends))[1] as value,
    max(j.intent_version) filter (where e.begins) as version,
    max(j.intent_backward) filter (where e.begins) as backward,
    (array_agg(j.intent_input) filter (where e.begins))[1] as input
from backstitch.journal j
    cross join lateral (
        values (j.intent_position, j.intent_direction, j.intent_attempt, true, false),
            (j.outcome_position, j.outcome_direction, j.outcome_attempt, false, true)
    ) e (position, direction, attempt, begins, ends)
where e.position is not null
group by j.workflow_id, e.position, e.direction, e.attempt
having bool_or(e.begins);

comment on view backstitch.attempts is
    'Every try of every step in either direction, with its idempotency key. No outcome: under way, or in doubt.';

create view backstitch.steps as
select a.workflow_id,
    a.position,
    a.step,
    a.version,
    a.backward,
    case
        when a.compensate_outcome = 'succeeded' then 'compensated'
        when a.compensate_attempts > 0 then 'compensating'
        when a.run_outcome = 'succeeded' then 'completed'
        when a.run_outcome in ('failed', 'rejected') then a.run_outcome
        when a.run_outcome is null then 'in_progress'
        else 'waiting'
    end as status,
    a.run_attempts,
    a.compensate_attempts,
    a.began_at,
    a.run_ended_at as ended_at,
    a.compensate_ended_at as compensated_at,
    a.input,
    case when a.run_outcome = 'succeeded' then a.run_value end as output,
    a.run_failure as error,
    a.compensate_failure as compensate_error
from (
        select workflow_id,
            position,
            max(step) filter (where direction = 'run') as step,
            max(version) filter (where direction = 'run' and attempt = 1) as version,
            max(backward) filter (where direction = 'run' and attempt = 1) as backward,
            min(began_at) filter (where direction = 'run') as began_at,
            (array_agg(input) filter (where direction = 'run' and attempt = 1))[1] as input,
            count(*) filter (where direction = 'run') as run_attempts,
            (array_agg(outcome order by attempt desc) filter (where direction = 'run'))[1] as run_outcome,
            (array_agg(value order by attempt desc) filter (where direction = 'run'))[1] as run_value,
            (array_agg(value order by attempt desc) filter (where direction = 'run' and outcome <> 'succeeded'))[1]
                as run_failure,
            max(ended_at) filter (where direction = 'run') as run_ended_at,
            count(*) filter (where direction = 'compensate') as compensate_attempts,
            (array_agg(outcome order by attempt desc) filter (where direction = 'compensate'))[1]
                as compensate_outcome,
            (
                array_agg(value order by attempt desc)
                    filter (where direction = 'compensate' and outcome <> 'succeeded')
            )[1] as compensate_failure,
            max(ended_at) filter (where direction = 'compensate') as compensate_ended_at
        from backstitch.attempts
        group by workflow_id, position
    ) a;

comment on view backstitch.steps is
    'Every step begun: in_progress, waiting, completed, failed, rejected, compensating or compensated.';

create view backstitch.attention as
select w.workflow_id,
    w.kind,
    a.reason,
    a.message,
    a.raised_at,
    w.due_at as next_try_at,
    w.report
from backstitch.workflows w
    join backstitch.alert a on a.workflow_id = w.workflow_id
where a.resolved_at is null
union all
select null,
    unserved.kind,
    'kind_not_served',
    waiting.workflows || ' workflows wait for a worker that serves this kind',
    waiting.since,
    null,
    null
from (
        -- First the kinds, which are few: nothing is looked up for workflows that are served.
        select k.kind
        from (select r.kind from backstitch.ready r group by r.kind) k
        where not exists (
            select from backstitch.incarnation i where i.died_at is null and k.kind = any (i.kinds)
        )
    ) unserved
    cross join lateral (
        select count(*) as workflows, min(w.enqueued_at) as since
        from backstitch.ready r
            join backstitch.workflow w on w.workflow_id = r.workflow_id
        where r.kind = unserved.kind
    ) waiting;

comment on view backstitch.attention is 'What needs a person: workflows with an open alert, and kinds that nobody serves.';

-- Nothing is PUBLIC's.
revoke all on schema backstitch from public;
revoke all on all tables in schema backstitch from public;
revoke all on all functions in schema backstitch from public;
