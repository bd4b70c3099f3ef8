-- How finished workflows are removed: in batches, oldest first, and so that nothing else pays for it.
--
-- No index helps: ids are time-ordered, so what ended before a time has an id of before that time, and a run walks the
-- primary key from its oldest id up to there. What is live or ended later is stepped over, once a run. As at every step
-- (see 0002_protocol.sql), the plans must be right on tables that their statistics do not know yet.

-- Marks the run at work by what it commits, not by a lock of its session: there may be a pooler between.
create table backstitch.retention (
    is_the_only_row boolean primary key default true,
    run uuid,
    next_after uuid,
    until uuid,
    batch_at timestamptz,

    constraint there_is_one_row check (is_the_only_row),
    constraint a_run_is_whole check (num_nonnulls(run, next_after, until, batch_at) in (0, 4))
);

insert into backstitch.retention default values;

comment on table backstitch.retention is 'How far the run is that removes finished workflows. One row.';
comment on column backstitch.retention.run is 'Which run is at work. Null: none.';
comment on column backstitch.retention.next_after is 'Ids up to this one are walked.';
comment on column backstitch.retention.until is 'Ids from this one on are too young.';
comment on column backstitch.retention.batch_at is 'When its last batch ended: after 30 seconds without another the run is given up for dead.';

-- Alerts are rare: this index costs no step anything.
create index alert_by_workflow on backstitch.alert (workflow_id);

create function backstitch.remove_finished(p_run uuid, p_age interval, p_workflows integer, p_records integer)
    returns table (verdict text, removed integer, walked integer)
    language plpgsql
    set search_path = pg_catalog
    set enable_seqscan = off
    set plan_cache_mode = force_generic_plan
    rows 1
as $$
declare
    v_retention record;
    v_before timestamptz;
    v_found integer;
    v_walked uuid[];
    v_finished uuid[];
    v_ends boolean;
begin
    if p_run is null or p_workflows < 1 or p_records < 1 or coalesce(p_age < interval '0', true) then
        raise exception 'give a run, an age of 0 or more, and batches of 1 or more' using errcode = 'BSI01';
    end if;
    -- Tried, not waited for. The next one after the gate of wake().
    if not pg_try_advisory_xact_lock(backstitch.fence_class() + 2, 0) then
        return query select 'left_to_another', 0, 0;
        return;
    end if;
    perform backstitch.assert_read_committed();
    select * into strict v_retention from backstitch.retention r where r.is_the_only_row;
    if v_retention.run <> p_run and v_retention.batch_at > backstitch.clock() - interval '30 seconds' then
        return query select 'left_to_another', 0, 0;
        return;
    end if;
    -- Nothing is older than a thousand years, and no time needs to be.
    v_before := backstitch.clock() - least(p_age, interval '1000 years');
    if v_retention.run is distinct from p_run then
        v_retention.next_after := '00000000-0000-0000-0000-000000000000';
        -- An id is made a moment before or after its time is read; with a second of room none is missed for that.
        v_retention.until := rpad(
            lpad(to_hex(greatest(extract(epoch from v_before + interval '1 second') * 1000, 0)::bigint), 12, '0'), 32, '0'
        )::uuid;
    end if;

    select count(*),
        coalesce(array_agg(f.workflow_id order by f.workflow_id) filter (where f.fits), '{}'),
        array_agg(f.workflow_id order by f.workflow_id) filter (where f.fits and f.is_over)
    into v_found, v_walked, v_finished
    from (
        select o.workflow_id, o.is_over,
            -- The first in any case: one that is longer than a batch goes alone.
            coalesce(
                sum(o.records) over (order by o.workflow_id rows between unbounded preceding and 1 preceding), 0
            ) < p_records as fits
        from (
            select w.workflow_id,
                w.finished_at < v_before as is_over,
                -- Without gaps from 0, so the last one tells how many there are.
                case
                    when w.finished_at < v_before then (
                        select j.seq + 1
                        from backstitch.journal j
                        where j.workflow_id = w.workflow_id
                        order by j.seq desc
                        limit 1
                    )
                end as records
            from backstitch.workflow w
            where w.workflow_id > v_retention.next_after
                and w.workflow_id < v_retention.until
            order by w.workflow_id
            limit p_workflows
        ) o
    ) f;
    v_ends := v_found < p_workflows and cardinality(v_walked) = v_found;

    -- Whoever has ended is written about no more: there is nobody to wait for, and nobody waits for this. Its key stays,
    -- so that asking again does not do it again.
    delete from backstitch.journal j where j.workflow_id = any (v_finished);
    delete from backstitch.alert a where a.workflow_id = any (v_finished);
    delete from backstitch.workflow w where w.workflow_id = any (v_finished);

    update backstitch.retention r
    set run = case when not v_ends then p_run end,
        next_after = case when not v_ends then v_walked[cardinality(v_walked)] end,
        until = case when not v_ends then v_retention.until end,
        batch_at = case when not v_ends then backstitch.clock() end
    where r.is_the_only_row;
    return query
        select case when v_ends then 'ended' else 'goes_on' end,
            coalesce(cardinality(v_finished), 0),
            cardinality(v_walked);
end
$$;

comment on function backstitch.remove_finished(uuid, interval, integer, integer) is
    'One batch of a run: removes workflows that ended longer than an age ago, with journals and alerts, and leaves keys. To be repeated while it goes_on; ended: all are walked; left_to_another: another run is at work.';

-- What is removed lies at the old end, and each run walks over it until a vacuum was there: that shall be a twentieth of
-- the table, not a fifth. What a vacuum frees is filled again by what comes, so the end of the file is not given back:
-- for a moment nobody could append.
alter table backstitch.workflow
    set (autovacuum_vacuum_scale_factor = 0.05, vacuum_truncate = off, toast.vacuum_truncate = off);
alter table backstitch.journal
    set (autovacuum_vacuum_scale_factor = 0.05, vacuum_truncate = off, toast.vacuum_truncate = off);

comment on table backstitch.journal is
    'Append-only until its workflow is removed. A row is one stitch: how an attempt ended, whether the course turns, what begins next, in this order.';

-- Nothing is PUBLIC's.
revoke all on table backstitch.retention from public;
revoke all on function backstitch.remove_finished(uuid, interval, integer, integer) from public;
