-- What the hot path costs: one statement appends for all workflows in flight, and a record costs it a few microseconds.
--
-- Measured on batches of 200 records. A batch as 17 arrays was copied into 17 tuple stores, three times; an array of one
-- composite type is one. `on conflict do nothing` inserts every row twice over (speculatively, then a confirmation in the
-- WAL); whether a place is free is known from the look that finds gaps anyway. And where all went as asked, one row says so.
--
-- The functions that workers of the previous version call stay, on top of these or beside them.

-- One evaluation of the clock, and no settings of its own: so both are planned into the statements that call them.
create or replace function backstitch.clock() returns timestamptz
    language sql volatile parallel safe
    return clock_timestamp();

-- To the microsecond, in the bits that the RFC leaves to it (6.2, method 3): ids made one after the other are neighbours,
-- so the indexes grow at their right end, and their pages stay full.
create or replace function backstitch.uuid_v7() returns uuid
    language sql volatile parallel safe
    return (
        overlay(
            lpad(to_hex((date_part('epoch', clock_timestamp()) * 1000000)::bigint * 512 / 125), 15, '0')
            placing '7' from 13 for 0
        ) || right(gen_random_uuid()::text, 17)
    )::uuid;

-- Every enqueue calls it, and a function in SQL is planned anew with each call.
create or replace function backstitch.wake() returns void
    language plpgsql volatile
    set search_path = pg_catalog
as $$
begin
    perform pg_notify('backstitch_ready', '')
    where pg_try_advisory_xact_lock(backstitch.fence_class() + 1, 0);
end
$$;

-- Who has a cancelled workflow in flight? Almost always nobody, and every append asks.
create index ready_cancelled on backstitch.ready (holder) where cancel is not null;

-- Room on its page for the version that its end makes of a workflow: that one is then a heap-only tuple, which costs no
-- entry in an index, and the old one leaves no hole that later workflows would be scattered into.
alter table backstitch.workflow set (fillfactor = 60);

-- A first record, which has no outcome, fits into what the others leave free at the end of their pages. Once a vacuum
-- has made those holes known, first records are scattered over all of them, a page each, instead of over the newest pages:
-- so none only because of inserts. What ages is still frozen in time, and what retention removes still vacuumed.
alter table backstitch.journal set (autovacuum_vacuum_insert_threshold = -1);

create type backstitch.journal_record as (
    workflow_id uuid,
    seq integer,
    epoch integer,
    outcome text,
    outcome_position integer,
    outcome_direction text,
    outcome_attempt integer,
    outcome_value text,
    turn text,
    turn_value text,
    intent_position integer,
    intent_direction text,
    intent_attempt integer,
    intent_step text,
    intent_version integer,
    intent_backward text,
    intent_input text,
    output text,
    after text
);

comment on type backstitch.journal_record is
    'A row for the journal under an epoch, and what follows from it: the output of a workflow that completes, and `after`.';
comment on column backstitch.journal_record.after is
    'JSON: phase, attention ({reason, message} or false), innocent, park_ms, and cause, error and report of a rollback. Null: nothing of it.';

-- What a record that does not end its workflow changes beside the journal.
create function backstitch.follow(
    p_records backstitch.journal_record[],
    p_written uuid[],
    p_ended uuid[],
    p_pivots uuid[],
    p_now timestamptz
)
    returns void
    language plpgsql
    set search_path = pg_catalog
    set enable_seqscan = off
    set plan_cache_mode = force_generic_plan
as $$
declare
    v_changing backstitch.journal_record[];
    v_loud backstitch.journal_record[];
begin
    v_changing := array(
        select u
        from unnest(p_records) u
        where u.workflow_id = any (p_written)
            and u.workflow_id <> all (p_ended)
    );
    v_loud := array(select u from unnest(v_changing) u where u.after::jsonb ?| array['attention', 'report']);
    if v_loud <> '{}' then
        insert into backstitch.alert (workflow_id, reason, message, raised_at)
        select a.workflow_id, a.raised ->> 'reason', a.raised ->> 'message', p_now
        from (
                select u.workflow_id, u.after::jsonb -> 'attention' as raised
                from unnest(v_loud) u
                    cross join lateral (
                        select from backstitch.ready r where r.workflow_id = u.workflow_id and not r.attention offset 0
                    ) r
                offset 0
            ) a
        where jsonb_typeof(a.raised) = 'object';
        update backstitch.workflow w
        set cause = e.after -> 'cause',
            error = e.after -> 'error',
            report = e.after -> 'report'
        from (
                select u.after::jsonb as after, w.ctid
                from unnest(v_loud) u
                    cross join lateral (
                        select w.ctid from backstitch.workflow w where w.workflow_id = u.workflow_id offset 0
                    ) w
                offset 0
            ) e
        where w.ctid = e.ctid
            and e.after ? 'report';
        update backstitch.alert a
        set resolved_at = p_now
        where a.workflow_id = any (
                array(select u.workflow_id from unnest(v_loud) u where u.after::jsonb -> 'attention' = 'false')
            )
            and a.resolved_at is null;
    end if;

    update backstitch.ready r
    set phase = coalesce(c.after ->> 'phase', r.phase),
        attention = case when c.after ? 'attention' then c.after -> 'attention' <> 'false' else r.attention end,
        past_pivot = r.past_pivot or c.pivots,
        crash_charges = case when c.after ? 'innocent' then 0 else r.crash_charges end,
        orphaned = case when c.after ? 'innocent' then null else r.orphaned end,
        holder = case when c.after ? 'park_ms' then null else r.holder end,
        due_at = case
            when not c.after ? 'park_ms' then r.due_at
            -- A cancel that came while the attempt ran is not made to wait for the backoff.
            when r.cancel is not null and coalesce(c.after ->> 'phase', r.phase) = 'running' then p_now
            else p_now + make_interval(secs => (c.after ->> 'park_ms')::double precision / 1000)
        end
    from (
            select coalesce(u.after::jsonb, '{}') as after, u.workflow_id = any (p_pivots) as pivots, r.ctid
            from unnest(v_changing) u
                cross join lateral (
                    select r.ctid from backstitch.ready r where r.workflow_id = u.workflow_id offset 0
                ) r
            where u.after is not null
                or u.workflow_id = any (p_pivots)
            offset 0
        ) c
    where r.ctid = c.ctid;
end
$$;

comment on function backstitch.follow(backstitch.journal_record[], uuid[], uuid[], uuid[], timestamptz) is
    'A part of append: what written records that end nothing change beside the journal.';

create function backstitch.append(p_incarnation integer, p_records backstitch.journal_record[])
    returns table (ordinal integer, verdict text, leased boolean, cancel jsonb, written_at timestamptz)
    language plpgsql
    set search_path = pg_catalog
    set enable_seqscan = off
    set plan_cache_mode = force_generic_plan
    rows 1
as $$
declare
    v_now timestamptz;
    v_alive boolean;
    v_leased boolean;
    v_touched backstitch.journal_record[];
    v_written uuid[];
    v_ended uuid[];
    v_pivots uuid[];
    v_resolved uuid[];
    -- All of it stands, and nothing of this incarnation's was cancelled: one row says so.
    v_as_asked boolean;
begin
    perform pg_advisory_xact_lock_shared(backstitch.fence_class(), p_incarnation);
    perform backstitch.assert_read_committed();
    -- Read after the lock is had: the lease may have ended while waiting for it.
    v_now := backstitch.clock();
    select i.died_at is null, i.died_at is null and i.lease_until > v_now
    into v_alive, v_leased
    from backstitch.incarnation i
    where i.incarnation_id = p_incarnation;

    if v_alive then
        -- Whoever changes its row in ready locks it first: a cancel comes before all of this, or after.
        v_touched := array(
            select u.record
            from (
                    select s as record, s.workflow_id, s.epoch
                    from unnest(p_records) s
                    where s.after is not null
                        or s.turn in ('completed', 'compensated')
                        or s.intent_backward = 'pivot'
                    order by s.workflow_id
                    offset 0
                ) u
                cross join lateral (
                    select
                    from backstitch.ready r
                    where r.workflow_id = u.workflow_id
                        and r.holder is not distinct from p_incarnation
                        -- A batch may also hold a record of an earlier claim: nothing follows from that.
                        and r.epoch = u.epoch
                    offset 0
                    for update
                ) r
        );

        -- Of two that write the same places at once, such as a batch and its repetition, the second waits for the first and
        -- then fails with a unique violation; repeated, it finds the rows of the first. Rare enough not to be paid for by all.
        with written as (
            insert into backstitch.journal (
                workflow_id, seq, epoch, incarnation, written_at,
                outcome, outcome_position, outcome_direction, outcome_attempt, outcome_value,
                turn, turn_value,
                intent_position, intent_direction, intent_attempt, intent_step, intent_version,
                intent_backward, intent_input
            )
            select k.workflow_id, k.seq, k.epoch, p_incarnation, v_now,
                k.outcome, k.outcome_position, k.outcome_direction, k.outcome_attempt,
                k.outcome_value::json,
                case when k.keeps_turn then k.turn end,
                case when k.keeps_turn then k.turn_value::json end,
                case when k.keeps_intent then k.intent_position end,
                case when k.keeps_intent then k.intent_direction end,
                case when k.keeps_intent then k.intent_attempt end,
                case when k.keeps_intent then k.intent_step end,
                case when k.keeps_intent then k.intent_version end,
                case when k.keeps_intent then k.intent_backward end,
                case when k.keeps_intent then k.intent_input::json end
            from (
                    select u.*,
                        u.turn is not null and not (u.turn = 'completed' and t.cancel_wins) as keeps_turn,
                        -- An effect begins only under a lease, and none forward that was cancelled.
                        u.intent_position is not null
                            and (
                                t.transactional
                                or v_leased and (u.intent_direction = 'compensate' or not t.cancel_wins)
                            ) as keeps_intent
                    from unnest(p_records) u
                        cross join lateral (
                            select r.cancel is not null and not r.past_pivot as cancel_wins,
                                -- Intent and outcome of one attempt in one row: a transactional step.
                                u.outcome is not null
                                    and u.intent_position is not null
                                    and u.outcome_position = u.intent_position
                                    and u.outcome_direction = u.intent_direction
                                    and u.outcome_attempt = u.intent_attempt as transactional
                            from backstitch.ready r
                            where r.workflow_id = u.workflow_id
                                and r.holder is not distinct from p_incarnation
                                and r.epoch = u.epoch
                            offset 0
                        ) t
                    where not (
                            t.cancel_wins
                            and t.transactional
                            and u.intent_backward = 'pivot'
                            and u.outcome = 'succeeded'
                        )
                        -- Without gaps (I1), and a place is taken once, whoever counts.
                        and u.seq = coalesce(
                            (
                                select j.seq + 1
                                from backstitch.journal j
                                where j.workflow_id = u.workflow_id
                                    -- A bound, or a long journal costs more than a short one.
                                    and j.seq >= u.seq - 1
                                order by j.seq desc
                                limit 1
                            ),
                            0
                        )
                    offset 0
                ) k
            where k.outcome is not null or k.keeps_turn or k.keeps_intent
            -- In this order, or two batches that overlap wait for each other's rows.
            order by k.workflow_id, k.seq
            returning journal.workflow_id, journal.turn, journal.intent_position, journal.intent_backward,
                journal.intent_direction, journal.outcome, journal.outcome_position
        )
        select coalesce(array_agg(w.workflow_id), '{}'),
            coalesce(array_agg(w.workflow_id) filter (where w.turn in ('completed', 'compensated')), '{}'),
            -- Only with the intent: one that was dropped, for a cancel or the lease, leaves the way back open.
            coalesce(
                array_agg(w.workflow_id) filter (
                    where w.intent_backward = 'pivot'
                        and w.intent_direction = 'run'
                        and (
                            w.outcome_position is distinct from w.intent_position
                            or w.outcome = 'succeeded'
                        )
                ),
                '{}'
            )
        into v_written, v_ended, v_pivots
        from written w;

        -- Before anything lets go of them.
        perform from backstitch.ready r where r.holder = p_incarnation and r.cancel is not null;
        v_as_asked := v_leased and not found and cardinality(v_written) = cardinality(p_records);

        if v_ended <> '{}' then
            update backstitch.workflow w
            set status = e.turn,
                output = e.output::json,
                cause = e.after -> 'cause',
                error = e.after -> 'error',
                report = e.after -> 'report',
                finished_at = v_now
            from (
                    -- By its address, looked up one by one: as a join of two sets this took a time quadratic in the batch.
                    select u.turn, u.output, u.after::jsonb as after, w.ctid
                    from unnest(v_touched) u
                        cross join lateral (
                            select w.ctid from backstitch.workflow w where w.workflow_id = u.workflow_id offset 0
                        ) w
                    where u.workflow_id = any (v_ended)
                    offset 0
                ) e
            where w.ctid = e.ctid;
            with gone as (
                delete from backstitch.ready r where r.workflow_id = any (v_ended) returning r.workflow_id, r.attention
            )
            select array_agg(g.workflow_id) filter (where g.attention) into v_resolved from gone g;
            if v_resolved is not null then
                update backstitch.alert a
                set resolved_at = v_now
                where a.workflow_id = any (v_resolved)
                    and a.resolved_at is null;
            end if;
        end if;

        if cardinality(v_touched) > cardinality(v_ended) then
            perform backstitch.follow(v_touched, v_written, v_ended, v_pivots, v_now);
        end if;
    end if;

    if v_as_asked then
        return query select 0, 'written', true, null::jsonb, v_now;
        return;
    end if;

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
        from unnest(p_records) with ordinality u (
                workflow_id, seq, epoch, outcome, outcome_position, outcome_direction, outcome_attempt, outcome_value,
                turn, turn_value, intent_position, intent_direction, intent_attempt, intent_step, intent_version,
                intent_backward, intent_input, output, after, ordinal
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

comment on function backstitch.append(integer, backstitch.journal_record[]) is
    'Writes one record each for many workflows of one incarnation, in the order of their ids, with what follows from it: park, attention, end. A row of ordinal 0 speaks for all.';

-- As workers of the previous version call it.
create or replace function backstitch.append(
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
begin
    -- They don't know that a unique violation is to be repeated.
    for v_try in 1..9 loop
        begin
            return query
                select coalesce(u.ordinal, a.ordinal)::integer, a.verdict, a.leased, a.cancel, a.written_at
                from backstitch.append(
                        p_incarnation,
                        array(
                            select row(
                                    u.workflow_id, u.seq, u.epoch,
                                    u.outcome, u.outcome_position, u.outcome_direction, u.outcome_attempt, u.outcome_value,
                                    u.turn, u.turn_value,
                                    u.intent_position, u.intent_direction, u.intent_attempt, u.intent_step, u.intent_version,
                                    u.intent_backward, u.intent_input,
                                    (u.after::jsonb -> 'output')::text, (u.after::jsonb - 'output')::text
                                )::backstitch.journal_record
                            from unnest(
                                    p_workflow, p_seq, p_epoch, p_outcome, p_outcome_position, p_outcome_direction,
                                    p_outcome_attempt, p_outcome_value, p_turn, p_turn_value, p_intent_position,
                                    p_intent_direction, p_intent_attempt, p_intent_step, p_intent_version, p_intent_backward,
                                    p_intent_input, p_after
                                ) with ordinality u (
                                    workflow_id, seq, epoch, outcome, outcome_position, outcome_direction,
                                    outcome_attempt, outcome_value, turn, turn_value, intent_position,
                                    intent_direction, intent_attempt, intent_step, intent_version, intent_backward,
                                    intent_input, after, ordinal
                                )
                            order by u.ordinal
                        )
                    ) a
                    left join generate_series(1, cardinality(p_workflow)) u (ordinal) on a.ordinal = 0
                order by 1;
            return;
        exception
            when unique_violation then
                if v_try = 9 then
                    raise;
                end if;
        end;
    end loop;
end
$$;

-- A claim brings the journals along. In the same statement that takes the workflows: whoever held one before has written
-- its last record before letting go of it, so what this sees is all of it.
create function backstitch.claim(
    p_incarnation integer,
    p_queues text[],
    p_kinds text[],
    p_limit integer,
    p_suspects integer
)
    returns table (
        workflow_id uuid,
        kind text,
        input text,
        epoch integer,
        attention boolean,
        orphaned text,
        cancel jsonb,
        crash_charges integer,
        deadline_at timestamptz,
        now timestamptz,
        journal text
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
    v_suspects uuid[];
begin
    perform pg_advisory_xact_lock_shared(backstitch.fence_class(), p_incarnation);
    perform backstitch.assert_read_committed();
    -- Not flushed by itself: nothing has an effect before an append, whose flush covers everything before it. Should the
    -- server crash before one, there was no claim.
    perform set_config('synchronous_commit', 'off', true);
    v_now := backstitch.clock();
    perform from backstitch.incarnation i
    where i.incarnation_id = p_incarnation
        and i.died_at is null
        and i.lease_until > v_now;
    if not found then
        return;
    end if;

    v_due := array(
        -- First how many of each group are among those that have waited longest, without a lock; then so many of them,
        -- without waiting for other claims: nothing is locked that is not taken.
        with share as materialized (
            select c.queue, c.kind, c.priority, count(*) as workflows
            from (
                    select q.queue, k.kind, p.priority, r.due_at
                    from unnest(p_queues) q (queue)
                        cross join unnest(p_kinds) k (kind)
                        cross join generate_series(0, 3) p (priority)
                        cross join lateral (
                            select r.due_at
                            from backstitch.ready r
                            where r.queue = q.queue
                                and r.kind = k.kind
                                and r.priority = p.priority
                                and r.due_at <= v_now
                                and r.holder is null
                                and r.crash_charges < 2
                            order by r.due_at
                            limit p_limit
                        ) r
                    order by p.priority, r.due_at
                    limit p_limit
                ) c
            group by c.queue, c.kind, c.priority
        )
        select c.workflow_id
        from share s
            cross join lateral (
                select r.workflow_id
                from backstitch.ready r
                where r.queue = s.queue
                    and r.kind = s.kind
                    and r.priority = s.priority
                    and r.due_at <= v_now
                    and r.holder is null
                    and r.crash_charges < 2
                order by r.due_at
                limit s.workflows
                for update skip locked
            ) c
    );
    -- A suspect, one that may have killed its process twice, runs alone in one. There are few, in an index of their own;
    -- asked for in one go with its queue and kind, the planner walks through everything that waits in those.
    if p_suspects > 0 then
        v_suspects := array(
            select r.workflow_id
            from (
                    select s.workflow_id, s.queue, s.kind
                    from backstitch.ready s
                    where s.holder is null
                        and s.crash_charges >= 2
                        and s.due_at <= v_now
                    order by s.due_at
                    offset 0
                ) s
                cross join lateral (
                    select r.workflow_id
                    from backstitch.ready r
                    where r.workflow_id = s.workflow_id
                        and r.holder is null
                        and r.crash_charges >= 2
                    offset 0
                    for update skip locked
                ) r
            where s.queue = any (p_queues)
                and s.kind = any (p_kinds)
            limit p_suspects
        );
    end if;

    return query
        with claimed as (
            update backstitch.ready r
            set holder = p_incarnation,
                epoch = r.epoch + 1,
                phase = case r.phase when 'pending' then 'running' else r.phase end
            where r.workflow_id = any (v_due || v_suspects)
            returning r.*
        )
        select c.workflow_id, w.kind, w.input::text, c.epoch, c.attention, c.orphaned, c.cancel,
            c.crash_charges::integer, w.deadline_at, v_now,
            case
                when c.epoch > 1 then (
                    select json_agg(
                        json_build_array(
                            j.seq, j.written_at,
                            j.outcome, j.outcome_position, j.outcome_direction, j.outcome_attempt,
                            j.outcome_value::text,
                            j.turn, j.turn_value::text,
                            j.intent_position, j.intent_direction, j.intent_attempt, j.intent_step, j.intent_version,
                            j.intent_backward, j.intent_input::text
                        )
                        order by j.seq
                    )::text
                    from backstitch.journal j
                    where j.workflow_id = c.workflow_id
                )
            end
        from claimed c
            cross join lateral (
                select w.kind, w.input, w.deadline_at
                from backstitch.workflow w
                where w.workflow_id = c.workflow_id
                offset 0
            ) w
        order by c.priority, c.due_at;
end
$$;

comment on function backstitch.claim(integer, text[], text[], integer, integer) is
    'Takes due workflows of these queues and kinds, up to a limit, and so many suspects at most, with the journals of those that have one: an array of arrays, its values as text.';
comment on function backstitch.claim(integer, text[], text[], integer, boolean) is
    'As workers of the previous version call it.';

create function backstitch.check_order(
    p_kind text,
    p_queue text,
    p_priority integer,
    p_run_at timestamptz,
    p_deadline_at timestamptz
)
    returns void
    language plpgsql
    set search_path = pg_catalog
as $$
begin
    if coalesce(octet_length(p_kind), 0) not between 1 and 100 then
        raise exception 'a kind has 1 to 100 bytes' using errcode = 'BSI01';
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
end
$$;

comment on function backstitch.check_order(text, text, integer, timestamptz, timestamptz) is
    'A part of enqueue: refuses what no workflow can be ordered with.';

create function backstitch.check_input(p_what text, p_input jsonb, p_text text, p_key text)
    returns void
    language plpgsql
    set search_path = pg_catalog
as $$
begin
    if p_input is null then
        raise exception '%: input is null; give a JSON value, such as ''{}''', p_what using errcode = 'BSI01';
    end if;
    if octet_length(p_text) > 262144 then
        raise exception '%: input is % bytes of JSON, more than the 262144 allowed here', p_what, octet_length(p_text)
            using errcode = 'BSI01', hint = 'keep large data elsewhere and pass its address';
    end if;
    -- Only a text of twice 64 brackets can be that deep.
    if octet_length(p_text) >= 128
        and jsonb_path_exists(p_input, 'strict $.**{64}.type() ? (@ == "array" || @ == "object")')
    then
        raise exception '%: input is nested deeper than the 64 levels allowed', p_what using errcode = 'BSI01';
    end if;
    if octet_length(p_key) not between 1 and 500 then
        raise exception '%: a key has 1 to 500 bytes', p_what using errcode = 'BSI01';
    end if;
end
$$;

comment on function backstitch.check_input(text, jsonb, text, text) is
    'A part of enqueue: refuses an input or a key that no workflow can have.';

create function backstitch.refuse_key(p_kind text, p_key text, p_first uuid)
    returns void
    language plpgsql
    set search_path = pg_catalog
as $$
begin
    raise exception 'kind %: key "%" already names workflow %, which has another input', p_kind, p_key, p_first
        using errcode = 'BSK01', detail = p_first::text,
            hint = 'use the same input to join that workflow, or another key for a new one';
end
$$;

comment on function backstitch.refuse_key(text, text, uuid) is
    'A part of enqueue: the key names a workflow with another input.';

create or replace function backstitch.enqueue(
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
    v_text text := p_input::text;
    v_first record;
begin
    -- The usual is seen to be in order at a glance: the longer look costs as much as an insert.
    if (
            octet_length(p_kind) between 1 and 100
            and octet_length(p_queue) between 1 and 100
            and p_priority between 0 and 3
            and num_nonnulls(p_run_at, p_deadline_at, p_key) = 0
            and octet_length(v_text) < 128
        ) is not true
    then
        perform backstitch.check_order(p_kind, p_queue, p_priority, p_run_at, p_deadline_at),
            backstitch.check_input('kind ' || p_kind, p_input, v_text, p_key);
    end if;
    if p_key is not null then
        -- Two statements: the usual one-statement upsert returns no row when it loses a race.
        insert into backstitch.key (kind, key, workflow_id, input_hash)
        values (p_kind, p_key, v_workflow, sha256(convert_to(v_text, 'UTF8')))
        on conflict do nothing;
        if not found then
            select k.workflow_id, k.input_hash
            into strict v_first
            from backstitch.key k
            where k.kind = p_kind
                and k.key = p_key;
            if v_first.input_hash <> sha256(convert_to(v_text, 'UTF8')) then
                perform backstitch.refuse_key(p_kind, p_key, v_first.workflow_id);
            end if;
            return v_first.workflow_id;
        end if;
    end if;

    insert into backstitch.workflow (workflow_id, kind, version, key, queue, input, enqueued_at, deadline_at)
    values (v_workflow, p_kind, coalesce(p_version, 1), p_key, p_queue, p_input, v_now, p_deadline_at);
    insert into backstitch.ready (workflow_id, kind, queue, priority, due_at)
    values (v_workflow, p_kind, p_queue, p_priority, coalesce(p_run_at, v_now));
    -- As wake() does, without a call.
    perform pg_notify('backstitch_ready', '')
    where pg_try_advisory_xact_lock(backstitch.fence_class() + 1, 0);
    return v_workflow;
end
$$;

create function backstitch.enqueue_many(
    p_kind text,
    p_inputs jsonb[],
    p_keys text[] default null,
    p_queue text default 'default',
    p_priority integer default 1,
    p_run_at timestamptz default null,
    p_deadline_at timestamptz default null,
    p_version integer default 1
)
    returns uuid[]
    language plpgsql
    set search_path = pg_catalog
    set plan_cache_mode = force_generic_plan
as $$
declare
    v_now timestamptz := backstitch.clock();
    v_fresh uuid[] := array(select backstitch.uuid_v7() from generate_series(1, cardinality(p_inputs)));
    v_workflows uuid[] := v_fresh;
    v_other record;
begin
    perform backstitch.check_order(p_kind, p_queue, p_priority, p_run_at, p_deadline_at);
    if cardinality(p_keys) <> cardinality(p_inputs) then
        raise exception 'kind %: % inputs and % keys; give one for each, null where there is none',
            p_kind, cardinality(p_inputs), cardinality(p_keys)
            using errcode = 'BSI01';
    end if;
    perform backstitch.check_input('kind ' || p_kind || ', input ' || u.ordinal, u.input, u.text, u.key)
    from (
            select u.input, u.input::text as text, u.key, u.ordinal
            from unnest(p_inputs, p_keys) with ordinality u (input, key, ordinal)
            offset 0
        ) u
    -- Nearly all of them are seen here to be in order.
    where u.input is null
        or octet_length(u.text) >= 128
        or octet_length(u.key) not between 1 and 500;

    if p_keys is not null then
        insert into backstitch.key (kind, key, workflow_id, input_hash)
        select p_kind, u.key, u.workflow_id, sha256(convert_to(u.input::text, 'UTF8'))
        from unnest(v_fresh, p_inputs, p_keys) u (workflow_id, input, key)
        where u.key is not null
        -- In this order, or two calls that share keys wait for each other.
        order by u.key
        on conflict do nothing;
        -- Whose the key is now: this workflow's, or the first one's, of another call or of this one.
        v_workflows := array(
            select coalesce(k.workflow_id, u.workflow_id)
            from unnest(v_fresh, p_keys) with ordinality u (workflow_id, key, ordinal)
                left join lateral (
                    select k.workflow_id
                    from backstitch.key k
                    where k.kind = p_kind
                        and k.key = u.key
                    offset 0
                ) k on true
            order by u.ordinal
        );
        select u.key, u.workflow_id
        into v_other
        from unnest(v_workflows, p_inputs, p_keys) u (workflow_id, input, key)
            cross join lateral (
                select k.input_hash
                from backstitch.key k
                where k.kind = p_kind
                    and k.key = u.key
                offset 0
            ) k
        where k.input_hash <> sha256(convert_to(u.input::text, 'UTF8'))
        limit 1;
        if found then
            perform backstitch.refuse_key(p_kind, v_other.key, v_other.workflow_id);
        end if;
    end if;

    insert into backstitch.workflow (workflow_id, kind, version, key, queue, input, enqueued_at, deadline_at)
    select u.workflow_id, p_kind, coalesce(p_version, 1), u.key, p_queue, u.input, v_now, p_deadline_at
    from unnest(v_workflows, v_fresh, p_inputs, p_keys) u (workflow_id, fresh, input, key)
    where u.workflow_id = u.fresh;
    insert into backstitch.ready (workflow_id, kind, queue, priority, due_at)
    select u.workflow_id, p_kind, p_queue, p_priority, coalesce(p_run_at, v_now)
    from unnest(v_workflows, v_fresh) u (workflow_id, fresh)
    where u.workflow_id = u.fresh;
    perform backstitch.wake();
    return v_workflows;
end
$$;

comment on function backstitch.enqueue_many(text, jsonb[], text[], text, integer, timestamptz, timestamptz, integer) is
    'As enqueue, for many workflows of one kind in one statement; keys, where there are some, one for each. Their ids in the same order.';

revoke all on all functions in schema backstitch from public;
revoke all on type backstitch.journal_record from public;
