-- Who may write about a workflow: every statement that writes for an incarnation is here, behind one fence.
--
-- The fence: each function's first statement takes the incarnation's advisory lock shared, and only the next one, with
-- its fresh snapshot, looks whether the incarnation lives and holds the workflow. A burial takes the same lock exclusively.
-- So a burial waits for the writes in flight, and no later write misses it. In one statement, with a row lock, or under
-- repeatable read, a stale record slips through: the tests show each.
--
-- What runs at every step must cost the same on a table that was empty when its plan was made: plans live as long as a
-- session, a burst comes between two analyses, and a vacuum that met an empty table says for a minute that it still is.
-- So these functions scan no table in sequence, look rows up by `any (array)` or in a lateral `offset 0`, which can't be
-- turned into a join of whole tables, and compare the holder by `is not distinct from`, which leaves only the primary key.
-- And as no value can make another plan better, they plan once: planning anew took four fifths of an append's time.

-- The class of the fence's advisory locks: 'bs' in ASCII, so that they are told apart in pg_locks.
create function backstitch.fence_class() returns integer
    language sql immutable parallel safe
    set search_path = pg_catalog
    return 25203;

comment on function backstitch.fence_class() is
    'The class of the fence''s advisory locks, one per incarnation; the next one is that of the gate of wake().';

create function backstitch.assert_read_committed() returns void
    language plpgsql
    set search_path = pg_catalog
as $$
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception 'the journal needs read committed, this session has %', current_setting('transaction_isolation')
            using errcode = 'BSF02', hint = 'set default_transaction_isolation to ''read committed'' for this role';
    end if;
end
$$;

comment on function backstitch.assert_read_committed() is
    'A snapshot older than the fence''s lock would not see a burial: refuse to run under one.';

create function backstitch.register(
    p_token uuid,
    p_host text,
    p_pid integer,
    p_version text,
    p_kinds text[],
    p_lease interval
)
    returns integer
    language sql volatile
    set search_path = pg_catalog
begin atomic
    -- Again with the same token, after a commit whose answer was lost: the same incarnation.
    insert into backstitch.incarnation (token, host, pid, version, kinds, began_at, lease_until)
    values (p_token, p_host, p_pid, p_version, p_kinds, backstitch.clock(), backstitch.clock() + p_lease)
    on conflict (token) do update set token = excluded.token
    returning incarnation_id;
end;

comment on function backstitch.register(uuid, text, integer, text, text[], interval) is 'A worker process begins a life.';

-- Not behind the fence: it races with a burial for the incarnation's own row, and either sees the other.
create function backstitch.beat(p_incarnation integer, p_lease interval)
    returns table (alive boolean, cancelled uuid[])
    language plpgsql
    set search_path = pg_catalog
as $$
begin
    update backstitch.incarnation i
    set beat = i.beat + 1,
        lease_until = backstitch.clock() + p_lease
    where i.incarnation_id = p_incarnation
        and i.died_at is null;
    if not found then
        return query select false, '{}'::uuid[];
        return;
    end if;
    return query
        select true, coalesce(array_agg(r.workflow_id), '{}')
        from backstitch.ready r
        where r.holder = p_incarnation
            and r.cancel is not null;
end
$$;

comment on function backstitch.beat(integer, interval) is
    'Renews the lease of a living incarnation, and tells which of its workflows were cancelled.';

create function backstitch.claim(
    p_incarnation integer,
    p_queues text[],
    p_kinds text[],
    p_limit integer,
    p_takes_suspect boolean
)
    returns table (
        workflow_id uuid,
        kind text,
        version integer,
        input text,
        epoch integer,
        phase text,
        attention boolean,
        orphaned text,
        cancel jsonb,
        crash_charges integer,
        enqueued_at timestamptz,
        deadline_at timestamptz,
        now timestamptz
    )
    language plpgsql
    set search_path = pg_catalog
    set enable_seqscan = off
    set plan_cache_mode = force_generic_plan
    rows 100
as $$
declare
    v_now timestamptz;
    v_due uuid[];
    v_suspect uuid[];
begin
    perform pg_advisory_xact_lock_shared(backstitch.fence_class(), p_incarnation);
    perform backstitch.assert_read_committed();
    v_now := backstitch.clock();
    perform from backstitch.incarnation i
    where i.incarnation_id = p_incarnation
        and i.died_at is null
        and i.lease_until > v_now;
    if not found then
        return;
    end if;

    v_due := array(
        select c.workflow_id
        from unnest(p_queues) q (queue)
            cross join unnest(p_kinds) k (kind)
            cross join generate_series(0, 3) p (priority)
            cross join lateral (
                select r.workflow_id, r.due_at
                from backstitch.ready r
                where r.queue = q.queue
                    and r.kind = k.kind
                    and r.priority = p.priority
                    and r.due_at <= v_now
                    and r.holder is null
                    and r.crash_charges < 2
                order by r.due_at
                limit p_limit
                for update skip locked
            ) c
        order by p.priority, c.due_at
        limit p_limit
    );
    -- A suspect, one that may have killed its process twice, runs alone in one: never more than one at a time.
    if p_takes_suspect then
        v_suspect := array(
            select r.workflow_id
            from backstitch.ready r
            where r.queue = any (p_queues)
                and r.kind = any (p_kinds)
                and r.due_at <= v_now
                and r.holder is null
                and r.crash_charges >= 2
            order by r.due_at
            limit 1
            for update skip locked
        );
    end if;

    return query
        with claimed as (
            update backstitch.ready r
            set holder = p_incarnation,
                epoch = r.epoch + 1,
                phase = case r.phase when 'pending' then 'running' else r.phase end
            where r.workflow_id = any (v_due || v_suspect)
            returning r.*
        )
        select c.workflow_id, w.kind, w.version, w.input::text, c.epoch, c.phase, c.attention, c.orphaned, c.cancel,
            c.crash_charges::integer, w.enqueued_at, w.deadline_at, v_now
        from claimed c
            cross join lateral (
                select w.kind, w.version, w.input, w.enqueued_at, w.deadline_at
                from backstitch.workflow w
                where w.workflow_id = c.workflow_id
                offset 0
            ) w
        order by c.priority, c.due_at;
end
$$;

comment on function backstitch.claim(integer, text[], text[], integer, boolean) is
    'Takes due workflows of these queues and kinds, up to a limit, and at most one suspect.';

create index ready_suspects on backstitch.ready (due_at) where holder is null and crash_charges >= 2;

-- One statement for the records of many workflows. Position i of every array is one record.
create function backstitch.append(
    p_incarnation integer,
    p_workflow uuid[],
    p_seq integer[],
    p_epoch integer[],
    p_outcome text[],
    p_outcome_position integer[],
    p_outcome_direction text[],
    p_outcome_attempt integer[],
    p_outcome_value text[],
    p_turn text[],
    p_turn_value text[],
    p_intent_position integer[],
    p_intent_direction text[],
    p_intent_attempt integer[],
    p_intent_step text[],
    p_intent_version integer[],
    p_intent_backward text[],
    p_intent_input text[],
    p_after text[]
)
    returns table (ordinal integer, verdict text, leased boolean, cancel jsonb, written_at timestamptz)
    language plpgsql
    set search_path = pg_catalog
    set enable_seqscan = off
    set plan_cache_mode = force_generic_plan
    rows 100
as $$
declare
    v_now timestamptz;
    v_alive boolean;
    v_leased boolean;
    v_touched uuid[];
    v_written uuid[];
    v_begun uuid[];
    v_ended uuid[];
    v_record record;
    v_attention boolean;
begin
    perform pg_advisory_xact_lock_shared(backstitch.fence_class(), p_incarnation);
    perform backstitch.assert_read_committed();
    -- Read after the lock is had: the lease may have ended while waiting for it.
    v_now := backstitch.clock();
    select i.died_at is null, i.died_at is null and i.lease_until > v_now
    into v_alive, v_leased
    from backstitch.incarnation i
    where i.incarnation_id = p_incarnation;

    -- Whoever changes its row in ready locks it first: a cancel comes before all of this, or after.
    v_touched := array(
        select u.workflow_id
        from unnest(p_workflow, p_turn, p_after, p_intent_backward) u (workflow_id, turn, after, backward)
        where u.after is not null
            or u.turn in ('completed', 'compensated')
            or u.backward = 'pivot'
    );
    if v_alive and v_touched <> '{}' then
        perform from backstitch.ready r
        where r.workflow_id = any (v_touched)
            and r.holder is not distinct from p_incarnation
        order by r.workflow_id
        for update;
    end if;

    if v_alive then
        with record as (
            select *,
                -- Intent and outcome of one attempt in one row: a transactional step.
                u.outcome is not null
                    and u.intent_position is not null
                    and u.outcome_position = u.intent_position
                    and u.outcome_direction = u.intent_direction
                    and u.outcome_attempt = u.intent_attempt as transactional
            from unnest(
                p_workflow, p_seq, p_epoch, p_outcome, p_outcome_position, p_outcome_direction, p_outcome_attempt,
                p_outcome_value, p_turn, p_turn_value, p_intent_position, p_intent_direction, p_intent_attempt,
                p_intent_step, p_intent_version, p_intent_backward, p_intent_input
            ) u (
                workflow_id, seq, epoch, outcome, outcome_position, outcome_direction, outcome_attempt,
                outcome_value, turn, turn_value, intent_position, intent_direction, intent_attempt,
                intent_step, intent_version, intent_backward, intent_input
            )
        ), judged as (
            select u.*,
                r.cancel is not null and not r.past_pivot as cancel_wins,
                -- An effect begins only under a lease, and none forward that was cancelled.
                u.intent_position is not null
                    and (
                        u.transactional
                        or v_leased
                            and (u.intent_direction = 'compensate' or r.cancel is null or r.past_pivot)
                    ) as keeps_intent
            from record u
                cross join lateral (
                    select r.cancel, r.past_pivot
                    from backstitch.ready r
                    where r.workflow_id = u.workflow_id
                        and r.holder is not distinct from p_incarnation
                        and r.epoch = u.epoch
                    offset 0
                ) r
        ), kept as (
            select *,
                case when turn = 'completed' and cancel_wins then null else turn end as kept_turn
            from judged
            where not (transactional and intent_backward = 'pivot' and outcome = 'succeeded' and cancel_wins)
        ), written as (
            insert into backstitch.journal (
                workflow_id, seq, epoch, incarnation, written_at,
                outcome, outcome_position, outcome_direction, outcome_attempt, outcome_value,
                turn, turn_value,
                intent_position, intent_direction, intent_attempt, intent_step, intent_version, intent_backward,
                intent_input
            )
            select k.workflow_id, k.seq, k.epoch, p_incarnation, v_now,
                k.outcome, k.outcome_position, k.outcome_direction, k.outcome_attempt, k.outcome_value::json,
                k.kept_turn, case when k.kept_turn is not null then k.turn_value::json end,
                case when k.keeps_intent then k.intent_position end,
                case when k.keeps_intent then k.intent_direction end,
                case when k.keeps_intent then k.intent_attempt end,
                case when k.keeps_intent then k.intent_step end,
                case when k.keeps_intent then k.intent_version end,
                case when k.keeps_intent then k.intent_backward end,
                case when k.keeps_intent then k.intent_input::json end
            from kept k
            where (k.outcome is not null or k.kept_turn is not null or k.keeps_intent)
                -- Without gaps, whoever counts (I1).
                and (
                    k.seq = 0
                    or exists (
                        select from backstitch.journal p
                        where p.workflow_id = k.workflow_id
                            and p.seq = k.seq - 1
                        offset 0
                    )
                )
            -- In this order, or two batches that overlap, one of them repeated, wait for each other's rows.
            order by k.workflow_id, k.seq
            on conflict do nothing
            returning journal.workflow_id, journal.turn, journal.intent_position
        )
        select coalesce(array_agg(w.workflow_id), '{}'),
            coalesce(array_agg(w.workflow_id) filter (where w.intent_position is not null), '{}'),
            coalesce(array_agg(w.workflow_id) filter (where w.turn in ('completed', 'compensated')), '{}')
        into v_written, v_begun, v_ended
        from written w;
    end if;

    -- What follows from a record, one by one: as joins of the batch with tables this took a time quadratic in the batch.
    for v_record in
        select u.workflow_id, u.epoch, u.turn, coalesce(u.after::jsonb, '{}') as after,
            u.workflow_id = any (v_ended) as ends,
            -- Only with the intent: one that was dropped, for a cancel or the lease, leaves the way back open.
            u.workflow_id = any (v_begun)
                and u.intent_backward = 'pivot'
                and u.intent_direction = 'run'
                and (u.outcome_position is distinct from u.intent_position or u.outcome = 'succeeded') as pivots
        from unnest(
            p_workflow, p_epoch, p_outcome, p_outcome_position, p_turn, p_intent_position, p_intent_direction,
            p_intent_backward, p_after
        ) u (
            workflow_id, epoch, outcome, outcome_position, turn, intent_position, intent_direction,
            intent_backward, after
        )
        where u.workflow_id = any (v_touched)
            and u.workflow_id = any (v_written)
    loop
        select r.attention
        into v_attention
        from backstitch.ready r
        where r.workflow_id = v_record.workflow_id
            -- A batch may also hold a refused record of an earlier claim: nothing follows from that.
            and r.epoch = v_record.epoch;
        continue when not found;

        if jsonb_typeof(v_record.after -> 'attention') = 'object' and not v_attention then
            insert into backstitch.alert (workflow_id, reason, message, raised_at)
            values (
                v_record.workflow_id,
                v_record.after -> 'attention' ->> 'reason',
                v_record.after -> 'attention' ->> 'message',
                v_now
            );
        end if;

        if v_record.ends or v_record.after ? 'report' then
            update backstitch.workflow w
            set cause = v_record.after -> 'cause',
                error = v_record.after -> 'error',
                report = v_record.after -> 'report',
                status = case when v_record.ends then v_record.turn else w.status end,
                output = case when v_record.ends then (v_record.after -> 'output')::json end,
                finished_at = case when v_record.ends then v_now end
            where w.workflow_id = v_record.workflow_id;
        end if;

        if v_record.ends then
            delete from backstitch.ready r where r.workflow_id = v_record.workflow_id;
        else
            update backstitch.ready r
            set phase = coalesce(v_record.after ->> 'phase', r.phase),
                attention = case
                    when v_record.after ? 'attention' then v_record.after -> 'attention' <> 'false'
                    else r.attention
                end,
                past_pivot = r.past_pivot or coalesce(v_record.pivots, false),
                crash_charges = case when v_record.after ? 'innocent' then 0 else r.crash_charges end,
                orphaned = case when v_record.after ? 'innocent' then null else r.orphaned end,
                holder = case when v_record.after ? 'park_ms' then null else r.holder end,
                due_at = case
                    when not v_record.after ? 'park_ms' then r.due_at
                    -- A cancel that came while the attempt ran is not made to wait for the backoff.
                    when r.cancel is not null and coalesce(v_record.after ->> 'phase', r.phase) = 'running'
                        then v_now
                    else v_now
                        + make_interval(secs => (v_record.after ->> 'park_ms')::double precision / 1000)
                end
            where r.workflow_id = v_record.workflow_id;
        end if;

        if v_record.ends or v_record.after -> 'attention' = 'false' then
            update backstitch.alert a
            set resolved_at = v_now
            where a.workflow_id = v_record.workflow_id
                and a.resolved_at is null;
        end if;
    end loop;

    -- Compared with what stands in the journal, not with what was just done: so that a repeated write, after a commit
    -- whose answer was lost, gets the answer of the first. And compared with what it says: a transaction given up for
    -- lost may have committed another end of the same attempt under the same seq.
    return query
        select u.ordinal::integer,
            case
                when j.seq is null and r.workflow_id is null then 'fenced'
                when j.seq is null then 'refused'
                when u.turn in ('completed', 'compensated') and j.turn is null then 'written_without_end'
                when u.intent_position is not null and j.intent_position is null then 'written_without_intent'
                else 'written'
            end,
            -- What dropped an intent that nobody cancelled was the lease, even if it is renewed by now.
            coalesce(v_leased, false)
                and not (
                    j.seq is not null
                    and u.intent_position is not null
                    and j.intent_position is null
                    and r.cancel is null
                ),
            r.cancel,
            coalesce(j.written_at, v_now)
        from unnest(
                p_workflow, p_seq, p_epoch, p_outcome, p_outcome_position, p_outcome_direction, p_outcome_attempt,
                p_turn, p_intent_position, p_intent_direction, p_intent_attempt
            ) with ordinality u (
                workflow_id, seq, epoch, outcome, outcome_position, outcome_direction, outcome_attempt,
                turn, intent_position, intent_direction, intent_attempt, ordinal
            )
            left join lateral (
                select j.seq, j.turn, j.intent_position, j.written_at
                from backstitch.journal j
                where j.workflow_id = u.workflow_id
                    and j.seq = u.seq
                    and j.epoch = u.epoch
                    and j.incarnation = p_incarnation
                    and (j.outcome, j.outcome_position, j.outcome_direction, j.outcome_attempt)
                        is not distinct from (u.outcome, u.outcome_position, u.outcome_direction, u.outcome_attempt)
                    and (j.turn is not distinct from u.turn or j.turn is null and u.turn = 'completed')
                    and (
                        j.intent_position is null
                        or (j.intent_position, j.intent_direction, j.intent_attempt)
                            = (u.intent_position, u.intent_direction, u.intent_attempt)
                    )
                offset 0
            ) j on true
            left join lateral (
                select r.workflow_id, r.cancel
                from backstitch.ready r
                where r.workflow_id = u.workflow_id
                    and r.holder is not distinct from p_incarnation
                    and r.epoch = u.epoch
                    and v_alive
                offset 0
            ) r on true
        order by u.ordinal;
end
$$;

comment on function backstitch.append(
    integer, uuid[], integer[], integer[], text[], integer[], text[], integer[], text[], text[], text[], integer[],
    text[], integer[], text[], integer[], text[], text[], text[]
) is
    'Writes one record each for many workflows of one incarnation, with what follows from it: park, attention, end.';

create function backstitch.park(p_incarnation integer, p_workflow uuid, p_epoch integer, p_wait interval, p_after jsonb)
    returns boolean
    language plpgsql
    set search_path = pg_catalog
    set enable_seqscan = off
    set plan_cache_mode = force_generic_plan
as $$
declare
    v_now timestamptz;
    v_attention boolean;
begin
    perform pg_advisory_xact_lock_shared(backstitch.fence_class(), p_incarnation);
    perform backstitch.assert_read_committed();
    v_now := backstitch.clock();
    select r.attention
    into v_attention
    from backstitch.ready r
    where r.workflow_id = p_workflow
        and r.holder is not distinct from p_incarnation
        and r.epoch = p_epoch
    for update;
    if not found then
        return false;
    end if;
    if p_after ? 'attention' then
        if not v_attention then
            insert into backstitch.alert (workflow_id, reason, message, raised_at)
            values (p_workflow, p_after -> 'attention' ->> 'reason', p_after -> 'attention' ->> 'message', v_now);
        end if;
        -- Called without one, a person keeps the report that stood.
        if p_after ? 'report' then
            update backstitch.workflow w
            set cause = p_after -> 'cause',
                error = p_after -> 'error',
                report = p_after -> 'report'
            where w.workflow_id = p_workflow;
        end if;
    end if;
    update backstitch.ready r
    set holder = null,
        attention = r.attention or p_after ? 'attention',
        due_at = case
            when r.cancel is not null and r.phase = 'running' and not p_after ? 'attention' then v_now
            else v_now + p_wait
        end
    where r.workflow_id = p_workflow;
    return true;
end
$$;

comment on function backstitch.park(integer, uuid, integer, interval, jsonb) is
    'Hands a workflow back without a record, to be claimed after a wait. With attention: a person is told, once.';

-- A transactional step: first its own place, alone; then, with a fresh snapshot, whether it has been here before.
create function backstitch.enter_slot(
    p_incarnation integer,
    p_workflow uuid,
    p_position integer,
    p_seq integer,
    p_timeout_ms integer
)
    returns table (
        epoch integer,
        incarnation integer,
        outcome text,
        outcome_position integer,
        outcome_direction text,
        outcome_attempt integer,
        outcome_value text
    )
    language plpgsql
    set search_path = pg_catalog
    set enable_seqscan = off
    set plan_cache_mode = force_generic_plan
as $$
begin
    perform backstitch.assert_read_committed();
    -- A burial ends what carries this name; and a transaction that its client forgot ends by itself.
    perform set_config('application_name', 'backstitch incarnation ' || p_incarnation, true),
        set_config('statement_timeout', p_timeout_ms::text, true),
        set_config('idle_in_transaction_session_timeout', p_timeout_ms::text, true);
    perform pg_advisory_xact_lock(hashtextextended(p_workflow || '/' || p_position, 0));
    return query
        select j.epoch, j.incarnation, j.outcome, j.outcome_position, j.outcome_direction, j.outcome_attempt,
            j.outcome_value::text
        from backstitch.journal j
        where j.workflow_id = p_workflow
            and j.seq = p_seq;
end
$$;

comment on function backstitch.enter_slot(integer, uuid, integer, integer, integer) is
    'Begins the transaction of a transactional step: alone at its place, bounded in time. A row: its place is taken already.';

create function backstitch.retire(p_incarnation integer)
    returns boolean
    language plpgsql
    set search_path = pg_catalog
as $$
begin
    perform pg_advisory_xact_lock(backstitch.fence_class(), p_incarnation);
    perform backstitch.assert_read_committed();
    update backstitch.incarnation i
    set died_at = backstitch.clock(),
        death = 'shutdown'
    where i.incarnation_id = p_incarnation
        and i.died_at is null
        -- What it could not hand back is for a burial.
        and not exists (select from backstitch.ready r where r.holder = p_incarnation);
    return found;
end
$$;

comment on function backstitch.retire(integer) is 'A worker that holds nothing ends its life.';

create function backstitch.bury(p_incarnation integer, p_beat bigint, p_gone boolean)
    returns integer
    language plpgsql
    set search_path = pg_catalog
    set enable_seqscan = off
    set plan_cache_mode = force_generic_plan
as $$
declare
    v_now timestamptz := backstitch.clock();
    v_held integer;
    v_orphans integer;
begin
    perform from backstitch.incarnation i
    where i.incarnation_id = p_incarnation
        and i.died_at is null
        and (p_gone or i.beat = p_beat and i.lease_until <= v_now);
    if not found then
        return null;
    end if;
    -- A transaction of a step that the dead left open holds the fence, and its rows: end it.
    perform pg_terminate_backend(a.pid)
    from pg_stat_activity a
    where a.datname = current_database()
        and a.application_name = 'backstitch incarnation ' || p_incarnation
        and a.pid <> pg_backend_pid()
        -- Anybody may call a session so; one that can't be ended must not keep the dead from being buried.
        and pg_has_role(a.usesysid, 'usage');

    perform pg_advisory_xact_lock(backstitch.fence_class(), p_incarnation);
    perform backstitch.assert_read_committed();
    v_now := backstitch.clock();
    update backstitch.incarnation i
    set died_at = v_now,
        death = case when p_gone then 'gone' else 'expired' end
    where i.incarnation_id = p_incarnation
        and i.died_at is null
        -- It may have come back while this waited.
        and (p_gone or i.beat = p_beat and i.lease_until <= v_now);
    if not found then
        return null;
    end if;

    perform from backstitch.ready r
    where r.holder = p_incarnation
    order by r.workflow_id
    for update;
    get diagnostics v_held = row_count;
    update backstitch.ready r
    set holder = null,
        orphaned = case
            when not exists (
                select from backstitch.journal j
                where j.workflow_id = r.workflow_id
                    and j.intent_position is not null
                offset 0
            ) then r.orphaned
            when p_gone then 'gone'
            else 'expired'
        end,
        -- Charged: an attempt begun under this very claim has no outcome; or nothing at all was written under it, for a
        -- function and a transactional step leave no intent. The latter only until it runs alone, and then if it did.
        crash_charges = r.crash_charges + (
            (
                (r.crash_charges < 2 or v_held = 1)
                and not exists (
                    select from backstitch.journal j
                    where j.workflow_id = r.workflow_id
                        and j.epoch = r.epoch
                    offset 0
                )
            )
            or exists (
                select i.intent_position, i.intent_direction, i.intent_attempt
                from backstitch.journal i
                where i.workflow_id = r.workflow_id
                    and i.epoch = r.epoch
                    and i.intent_position is not null
                except
                select o.outcome_position, o.outcome_direction, o.outcome_attempt
                from backstitch.journal o
                where o.workflow_id = r.workflow_id
                    and o.outcome_position is not null
            )
        )::integer,
        -- One that waits for a person anyway is tried slowly, even if trying it kills.
        due_at = case when r.attention then v_now + interval '5 minutes' else v_now end
    where r.holder = p_incarnation;
    get diagnostics v_orphans = row_count;
    return v_orphans;
end
$$;

comment on function backstitch.bury(integer, bigint, boolean) is
    'Declares an expired (or, gone, a known dead) incarnation dead and frees its workflows. Null: it was not to be buried.';
