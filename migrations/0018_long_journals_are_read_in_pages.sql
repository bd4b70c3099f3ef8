-- What a claim answers has a bound, whatever it takes: it brings a journal along that is short, and a long one is read in
-- pages by whoever drives its workflow. Before, a few journals of the largest values were an answer that no deadline waits for,
-- so the claim failed, was repeated, and nobody got anything of those kinds any more.
--
-- Workers of the version before go on to call `claim` without bounds, and get whole journals.

create function backstitch.stitch(p_row backstitch.journal)
    returns json
    language sql stable parallel safe
    return json_build_array(
        p_row.seq, p_row.written_at,
        p_row.outcome, p_row.outcome_position, p_row.outcome_direction, p_row.outcome_attempt,
        p_row.outcome_value::text,
        p_row.turn, p_row.turn_value::text,
        p_row.intent_position, p_row.intent_direction, p_row.intent_attempt, p_row.intent_step, p_row.intent_version,
        p_row.intent_backward, p_row.intent_input::text
    );

comment on function backstitch.stitch(backstitch.journal) is
    'A row of a journal as workers read it: an array, its values as text.';

-- The part of a claim that takes, as it was in claim_due since 0004, and without those kinds that are paused.
create function backstitch.take(
    p_incarnation integer,
    p_queues text[],
    p_kinds text[],
    p_limit integer,
    p_suspects integer
)
    returns setof backstitch.ready
    language plpgsql
    set search_path = pg_catalog
    set enable_seqscan = off
    set plan_cache_mode = force_generic_plan
    set jit = off
    rows 100
as $$
declare
    v_now timestamptz;
    v_kinds text[] := p_kinds;
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

    if exists (select from backstitch.paused_kind) then
        v_kinds := array(
            select k.kind
            from unnest(p_kinds) k (kind)
            where not exists (select from backstitch.paused_kind p where p.kind = k.kind)
        );
    end if;
    v_due := array(
        -- First how many of each group are among those that have waited longest, without a lock; then so many of them,
        -- without waiting for other claims: nothing is locked that is not taken.
        with share as materialized (
            select c.queue, c.kind, c.priority, count(*) as workflows
            from (
                    select q.queue, k.kind, p.priority, r.due_at
                    from unnest(p_queues) q (queue)
                        cross join unnest(v_kinds) k (kind)
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
                and s.kind = any (v_kinds)
            limit p_suspects
        );
    end if;

    return query
        update backstitch.ready r
        set holder = p_incarnation,
            epoch = r.epoch + 1,
            phase = case r.phase when 'pending' then 'running' else r.phase end
        where r.workflow_id = any (v_due || v_suspects)
        returning r.*;
end
$$;

comment on function backstitch.take(integer, text[], text[], integer, integer) is
    'A part of claim: makes this incarnation the holder of due workflows of these queues and kinds, under their next epoch.';

create function backstitch.claim(
    p_incarnation integer,
    p_queues text[],
    p_kinds text[],
    p_limit integer,
    p_suspects integer,
    p_rows_max integer,
    p_bytes_max integer
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
    set jit = off
    rows 100
as $$
declare
    -- In a statement of its own: whoever held one before has written its last record before letting go of it, so what the
    -- next statement sees is all of it.
    v_taken backstitch.ready[] := array(
        select t from backstitch.take(p_incarnation, p_queues, p_kinds, p_limit, p_suspects) t
    );
    v_now timestamptz := backstitch.clock();
begin
    if v_taken = '{}' then
        return;
    end if;
    return query
        select c.workflow_id, w.kind, w.input::text, c.epoch, c.attention, c.orphaned, c.cancel,
            c.crash_charges::integer, w.deadline_at, v_now,
            case
                when c.epoch = 1 then '[]'
                -- There are no gaps: this one tells that there are more rows than that.
                when exists (
                    select from backstitch.journal j where j.workflow_id = c.workflow_id and j.seq >= p_rows_max offset 0
                ) then null
                -- As it is stored, which is not fetched for this: perhaps compressed, so never longer than it is.
                when p_bytes_max < (
                    select sum(
                            coalesce(pg_column_size(j.outcome_value), 0)
                            + coalesce(pg_column_size(j.turn_value), 0)
                            + coalesce(pg_column_size(j.intent_input), 0)
                        )
                    from backstitch.journal j
                    where j.workflow_id = c.workflow_id
                ) then null
                else (
                    select case when octet_length(s.stitches) <= p_bytes_max then s.stitches end
                    from (
                            select coalesce(json_agg(backstitch.stitch(j) order by j.seq)::text, '[]') as stitches
                            from backstitch.journal j
                            where j.workflow_id = c.workflow_id
                        ) s
                )
            end
        from unnest(v_taken) c
            cross join lateral (
                select w.kind, w.input, w.deadline_at
                from backstitch.workflow w
                where w.workflow_id = c.workflow_id
                offset 0
            ) w
        order by c.priority, c.due_at;
end
$$;

comment on function backstitch.claim(integer, text[], text[], integer, integer, integer, integer) is
    'Takes due workflows of these queues and kinds, up to a limit, and so many suspects at most, each with its journal if that has no more than so many rows and bytes: an array of stitches. Null: it is longer, and journal_page reads it.';

create function backstitch.journal_page(
    p_workflow uuid,
    p_seq integer,
    p_rows_max integer,
    p_bytes_max integer
)
    returns setof text
    language plpgsql stable
    set search_path = pg_catalog
    set enable_seqscan = off
    set plan_cache_mode = force_generic_plan
    set jit = off
    rows 100
as $$
declare
    v_stitch text;
    v_bytes bigint := 0;
begin
    -- Row by row, for what it takes to know how long they are is to make them. A few are made in advance.
    for v_stitch in
        select backstitch.stitch(j)::text
        from backstitch.journal j
        where j.workflow_id = p_workflow
            and j.seq >= p_seq
        order by j.seq
        limit p_rows_max
    loop
        return next v_stitch;
        v_bytes := v_bytes + octet_length(v_stitch);
        exit when v_bytes >= p_bytes_max;
    end loop;
end
$$;

comment on function backstitch.journal_page(uuid, integer, integer, integer) is
    'The stitches of a journal from this seq on: at most so many rows, and with the last one it may reach so many bytes. None: that is all.';

-- What the version before calls gets whole journals, of what is taken as above.
create or replace function backstitch.claim_due(
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
    set jit = off
    rows 100
as $$
declare
    v_taken backstitch.ready[] := array(
        select t from backstitch.take(p_incarnation, p_queues, p_kinds, p_limit, p_suspects) t
    );
    v_now timestamptz := backstitch.clock();
begin
    return query
        select c.workflow_id, w.kind, w.input::text, c.epoch, c.attention, c.orphaned, c.cancel,
            c.crash_charges::integer, w.deadline_at, v_now,
            case
                when c.epoch > 1 then (
                    select json_agg(backstitch.stitch(j) order by j.seq)::text
                    from backstitch.journal j
                    where j.workflow_id = c.workflow_id
                )
            end
        from unnest(v_taken) c
            cross join lateral (
                select w.kind, w.input, w.deadline_at
                from backstitch.workflow w
                where w.workflow_id = c.workflow_id
                offset 0
            ) w
        order by c.priority, c.due_at;
end
$$;

comment on function backstitch.claim_due(integer, text[], text[], integer, integer) is
    'A part of claim as workers of the previous version call it.';
comment on function backstitch.claim(integer, text[], text[], integer, integer) is
    'As workers of the previous version call it: with whole journals.';

revoke all on function
    backstitch.stitch(backstitch.journal),
    backstitch.take(integer, text[], text[], integer, integer),
    backstitch.claim(integer, text[], text[], integer, integer, integer, integer),
    backstitch.journal_page(uuid, integer, integer, integer)
from public;

-- Whoever may claim may call what a claim now calls, and what the new one is: workers that are no owners of the schema, and of the
-- version before, do not wait for somebody to grant it anew.
do $$
declare
    v_grantee name;
begin
    for v_grantee in
        select r.rolname
        from pg_proc p
            cross join aclexplode(p.proacl) a
            join pg_roles r on r.oid = a.grantee
        where p.oid = 'backstitch.claim(integer, text[], text[], integer, integer)'::regprocedure
            and a.privilege_type = 'EXECUTE'
    loop
        execute format(
            'grant execute on function
                backstitch.stitch(backstitch.journal),
                backstitch.take(integer, text[], text[], integer, integer),
                backstitch.claim(integer, text[], text[], integer, integer, integer, integer),
                backstitch.journal_page(uuid, integer, integer, integer)
            to %I',
            v_grantee
        );
    end loop;
end
$$;
