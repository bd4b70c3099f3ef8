-- A worker that died while the clock was ahead is buried though the clock was set back since: its lease says how long it is, so
-- one that ends later than that from now was written by a clock that is not that of today.

alter table backstitch.incarnation add column lease interval;

comment on column backstitch.incarnation.lease is
    'How long a beat makes its lease. Null: it has not beaten since this column is there.';

create or replace function backstitch.register(
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
    insert into backstitch.incarnation (token, host, pid, version, kinds, began_at, lease_until, lease)
    values (p_token, p_host, p_pid, p_version, p_kinds, backstitch.clock(), backstitch.clock() + p_lease, p_lease)
    on conflict (token) do update set token = excluded.token
    returning incarnation_id;
end;

-- As since 0010, and tells how long.
create or replace function backstitch.beat(p_incarnation integer, p_lease interval)
    returns table (alive boolean, cancelled uuid[])
    language plpgsql
    set search_path = pg_catalog
as $$
declare
    v_now timestamptz := backstitch.clock();
begin
    -- Set, not extended: by the first beat under a clock that was set back the lease is what it says again.
    update backstitch.incarnation i
    set beat = i.beat + 1,
        beat_at = v_now,
        lease_until = v_now + p_lease,
        lease = p_lease
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

-- As since 0002, but that a lease is over, too, that is further ahead than it can be: whoever buries by that has seen the same beat
-- for so long that the lease is over by a clock that nobody sets. And charges are never counted further than their column: a
-- workflow that has killed 32,767 processes is not to keep the next one from being buried, with all that it held.
create or replace function backstitch.bury(p_incarnation integer, p_beat bigint, p_gone boolean)
    returns integer
    language plpgsql
    set search_path = pg_catalog
    set enable_seqscan = off
    set plan_cache_mode = force_generic_plan
    set jit = off
as $$
declare
    v_now timestamptz := backstitch.clock();
    v_held integer;
    v_orphans integer;
begin
    perform from backstitch.incarnation i
    where i.incarnation_id = p_incarnation
        and i.died_at is null
        and (p_gone or i.beat = p_beat and (i.lease_until <= v_now or i.lease_until > v_now + i.lease));
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
        and (p_gone or i.beat = p_beat and (i.lease_until <= v_now or i.lease_until > v_now + i.lease));
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
        crash_charges = least(
            32767,
            r.crash_charges + (
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
            )::integer
        ),
        -- One that waits for a person anyway is tried slowly, even if trying it kills.
        due_at = case when r.attention then v_now + interval '5 minutes' else v_now end
    where r.holder = p_incarnation;
    get diagnostics v_orphans = row_count;
    return v_orphans;
end
$$;

comment on function backstitch.bury(integer, bigint, boolean) is
    'Declares an incarnation dead whose lease is over or can''t be (or, gone, a known dead one), and frees its workflows. Null: it was not to be buried.';
