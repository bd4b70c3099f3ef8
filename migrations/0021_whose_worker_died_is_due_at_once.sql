-- A workflow that somebody was told of is due at once when its worker dies, as every other one: what was wrong with it may be mended by
-- now, and the death need not be its fault. It waited for five minutes. Those it waits for still that are suspects: they may kill.

-- As since 0019, but for that.
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
        -- One that somebody was told of and that kills on is tried slowly.
        due_at = case when r.attention and r.crash_charges >= 2 then v_now + interval '5 minutes' else v_now end
    where r.holder = p_incarnation;
    get diagnostics v_orphans = row_count;
    return v_orphans;
end
$$;
