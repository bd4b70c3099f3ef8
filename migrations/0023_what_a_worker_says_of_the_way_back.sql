-- What a worker knows better than the database, it says. A pivot that did not happen, for the step was rejected and is believed, leaves
-- the way back open: a cancel is accepted again. And a cancel that comes just before a person is called is acted on at once, as one that
-- comes just after, where whoever claims the workflow next can heed it.

comment on column backstitch.journal_record.after is
    'JSON: phase, attention ({reason, message} or false), innocent, past_pivot (false), park_ms, and cause, error and report of a rollback. Null: nothing of it.';

-- As since 0004, but for `past_pivot`.
create or replace function backstitch.follow(
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
    set jit = off
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
        -- The pivot did not happen. Another one's intent may stand in the same row.
        past_pivot = r.past_pivot and c.after -> 'past_pivot' is distinct from 'false' or c.pivots,
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

-- As since 0002, but for `heeds_cancel`.
create or replace function backstitch.park(p_incarnation integer, p_workflow uuid, p_epoch integer, p_wait interval, p_after jsonb)
    returns boolean
    language plpgsql
    set search_path = pg_catalog
    set enable_seqscan = off
    set plan_cache_mode = force_generic_plan
    set jit = off
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
            -- A cancel that came meanwhile is not made to wait. Unless it can't be heeded: whoever claims the workflow would park it
            -- again, at once and for ever. A worker of the version before never says that it can.
            when r.cancel is not null
                and r.phase = 'running'
                and (not p_after ? 'attention' or p_after ? 'heeds_cancel') then v_now
            else v_now + p_wait
        end
    where r.workflow_id = p_workflow;
    return true;
end
$$;
