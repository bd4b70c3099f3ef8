-- What a stop took over is found by an index, however many allocations there ever were.

create unique index a_stop_takes_over_one_allocation on gateway.allocation (stopping_workflow_id)
    where stopping_workflow_id is not null;

create or replace function gateway.proc_allocation_begin_stop(p_organization_id uuid, p_workflow_id uuid)
    returns gateway.allocation
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_allocation gateway.allocation;
begin
    -- What this stop took over once is its own for good, also when it has ended.
    select * into v_allocation
    from gateway.allocation
    where stopping_workflow_id = p_workflow_id;
    if found then
        if v_allocation.organization_id <> p_organization_id then
            raise exception 'workflow % has stopped organisation %', p_workflow_id, v_allocation.organization_id
                using errcode = 'BGI03';
        end if;
        return v_allocation;
    end if;

    update gateway.allocation
    set status = 'stopping', stopping_workflow_id = p_workflow_id, stopping_at = clock_timestamp()
    where organization_id = p_organization_id and status = 'active'
    returning * into v_allocation;
    if found then
        return v_allocation;
    end if;

    select * into v_allocation
    from gateway.allocation
    where organization_id = p_organization_id and status = 'stopping';
    if found then
        raise exception 'organisation % is being stopped by workflow %', p_organization_id, v_allocation.stopping_workflow_id
            using errcode = 'BGA04';
    end if;
    raise exception 'organisation % has no gateway', p_organization_id using errcode = 'BGA03';
end
$$;

create or replace function gateway.proc_organizations_gateways_stop(p_gateway_id bigint, p_workflow_id uuid) returns boolean
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_allocation gateway.allocation;
begin
    perform from gateway.gateway where gateway_id = p_gateway_id for update;
    if not found then
        raise exception 'there is no gateway %', p_gateway_id using errcode = 'BGN01';
    end if;
    update gateway.allocation
    set status = 'ended', ended_at = clock_timestamp(), ended_by = p_workflow_id
    where gateway_id = p_gateway_id
        and status <> 'ended'
        and coalesce(stopping_workflow_id, workflow_id) = p_workflow_id;
    if found then
        update gateway.gateway set free_since = clock_timestamp() where gateway_id = p_gateway_id;
        return true;
    end if;

    -- Whoever ended it is one of the two that it names, and these have an index each.
    if exists (
        select
        from gateway.allocation
        where (workflow_id = p_workflow_id or stopping_workflow_id = p_workflow_id)
            and gateway_id = p_gateway_id
            and ended_by = p_workflow_id
    ) then
        return true;
    end if;
    select * into v_allocation from gateway.allocation where gateway_id = p_gateway_id and status <> 'ended';
    if found then
        raise exception 'gateway % is allocated on behalf of workflow %, which alone may release it',
            p_gateway_id, coalesce(v_allocation.stopping_workflow_id, v_allocation.workflow_id)
            using errcode = 'BGA05';
    end if;
    return false;
end
$$;
