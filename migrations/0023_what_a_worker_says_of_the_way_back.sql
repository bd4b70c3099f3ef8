-- A cancel that comes just before a person is called is acted on at once, as one that comes just after, where whoever claims the workflow
-- next can heed it: which its worker knows, and says.

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
