-- A burial freed all that the dead held, or nothing: one row of it that somebody's transaction kept, such as a cancel that was not
-- committed, held up every workflow of that worker. It frees what it gets, and the next look does the rest. Until none is left
-- the incarnation is not dead, so that whoever looks for the dead finds it, the version before, too; but it does not come back.

alter table backstitch.incarnation add column held_at_burial integer;

comment on column backstitch.incarnation.held_at_burial is
    'How many workflows it held when its burial began; until it is dead somebody keeps one of them. Null: none has begun, or it freed all at once.';

-- As since 0019, but for who is being buried.
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
        and i.died_at is null
        -- Others have gone on with what was freed: its own attempts at that are to end now, not when their time is over.
        and i.held_at_burial is null;
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

-- As since 0021, but for what somebody keeps.
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
    v_free uuid[];
begin
    perform from backstitch.incarnation i
    where i.incarnation_id = p_incarnation
        and i.died_at is null
        and (
            p_gone
            or i.held_at_burial is not null
            or i.beat = p_beat and (i.lease_until <= v_now or i.lease_until > v_now + i.lease)
        );
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
    select i.held_at_burial
    into v_held
    from backstitch.incarnation i
    where i.incarnation_id = p_incarnation
        and i.died_at is null
        -- It may have come back while this waited.
        and (
            p_gone
            or i.held_at_burial is not null
            or i.beat = p_beat and (i.lease_until <= v_now or i.lease_until > v_now + i.lease)
        )
    for no key update;
    if not found then
        return null;
    end if;
    -- As it died, whatever was freed since: who ran alone is told by that. Under the fence nothing comes to it.
    if v_held is null then
        select count(*) into v_held from backstitch.ready r where r.holder = p_incarnation;
    end if;

    v_free := array(
        select r.workflow_id
        from backstitch.ready r
        where r.holder = p_incarnation
        order by r.workflow_id
        for update skip locked
    );
    update backstitch.ready r
    set holder = null,
        orphaned = case
            when not exists (
                select from backstitch.journal j
                where j.workflow_id = r.workflow_id
                    and j.intent_position is not null
                offset 0
            ) then r.orphaned
            -- Of an earlier holder nobody knows that it is gone: its attempt may be the open one still.
            when p_gone and r.orphaned is distinct from 'expired' then 'gone'
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
    where r.workflow_id = any (v_free);

    if exists (select from backstitch.ready r where r.holder = p_incarnation) then
        -- No intent of it is taken, and no claim: it may not know yet.
        update backstitch.incarnation i
        set held_at_burial = v_held,
            lease_until = least(i.lease_until, v_now)
        where i.incarnation_id = p_incarnation;
    else
        update backstitch.incarnation i
        set died_at = v_now,
            death = case when p_gone then 'gone' else 'expired' end
        where i.incarnation_id = p_incarnation;
    end if;
    return cardinality(v_free);
end
$$;

comment on function backstitch.bury(integer, bigint, boolean) is
    'Declares an incarnation dead whose lease is over or can''t be (or, gone, a known dead one), and frees its workflows: how many. Those that somebody keeps are left to the next call, and until then it is not dead. Null: it was not to be buried.';
