-- What administrators and workflows do with the pool; each refusal has its own SQLSTATE, listed in src/pool/error.rs.
--
-- Locks are taken in one order: gateway, then allocation.

create function gateway.proc_gateway_new(p_name text, p_upstream text) returns bigint
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_parts text[] := regexp_match(p_upstream, '^(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+)):([0-9]{1,5})$');
    v_address inet;
    v_id bigint;
begin
    begin
        v_address := coalesce(v_parts[1], v_parts[2])::inet;
    exception when invalid_text_representation then
        v_address := null;
    end;
    if v_address is null then
        raise exception 'gateway %: upstream % is not an address and a port', p_name, p_upstream
            using errcode = 'BGI01', hint = 'give one such as 10.0.0.7:8080 or [fd00::7]:8080';
    end if;
    insert into gateway.gateway (name, upstream_address, upstream_port, created_at, free_since)
    values (p_name, v_address, v_parts[3]::integer, clock_timestamp(), clock_timestamp())
    returning gateway_id into v_id;
    return v_id;
exception
    when unique_violation then
        raise exception 'there is a gateway with the name % or the upstream % already', p_name, p_upstream
            using errcode = 'BGI02';
    when check_violation or not_null_violation then
        raise exception 'gateway %: a name has 1 to 63 letters, digits, dots, hyphens; a port is 1 to 65535', p_name
            using errcode = 'BGI01';
end
$$;

comment on function gateway.proc_gateway_new(text, text) is 'Adds a gateway; it is handed out only once it is set ready.';

create function gateway.proc_gateways_set_ready(p_gateway_id bigint) returns void
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_status text;
begin
    update gateway.gateway
    set status = 'ready'
    where gateway_id = p_gateway_id and status in ('new', 'ready');
    if found then
        return;
    end if;
    select status into v_status from gateway.gateway where gateway_id = p_gateway_id;
    if v_status is null then
        raise exception 'there is no gateway %', p_gateway_id using errcode = 'BGN01';
    end if;
    raise exception 'gateway % is %', p_gateway_id, v_status
        using errcode = 'BGQ01', hint = 'gateway.proc_gateway_release takes it out of quarantine';
end
$$;

comment on function gateway.proc_gateways_set_ready(bigint) is 'A new gateway may be handed out from now on.';

create function gateway.proc_organizations_start_gateway(
    p_organization_id uuid,
    p_workflow_id uuid,
    p_hostname text default null
)
    returns gateway.allocation
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_allocation gateway.allocation;
    v_gateway_id bigint;
begin
    select * into v_allocation from gateway.allocation where workflow_id = p_workflow_id;
    if found then
        if v_allocation.organization_id <> p_organization_id then
            raise exception 'workflow % has allocated for organisation %', p_workflow_id, v_allocation.organization_id
                using errcode = 'BGI03';
        end if;
        if v_allocation.status = 'ended' then
            raise exception 'the allocation of workflow % has ended', p_workflow_id using errcode = 'BGE01';
        end if;
        return v_allocation;
    end if;

    -- Before the pool is asked: with the pool exhausted this is still the better answer.
    select * into v_allocation
    from gateway.allocation
    where organization_id = p_organization_id and status <> 'ended';
    if found then
        raise exception 'organisation % has a gateway already', p_organization_id
            using errcode = 'BGA02', detail = 'allocated by workflow ' || v_allocation.workflow_id;
    end if;

    select gateway_id into v_gateway_id
    from gateway.gateway
    where status = 'ready' and free_since is not null
    order by free_since, gateway_id
    limit 1
    for update skip locked;
    if not found then
        -- Skipped is not taken: whoever holds the last one may yet give it back. Say "none" only when there is none.
        select gateway_id into v_gateway_id
        from gateway.gateway
        where status = 'ready' and free_since is not null
        order by free_since, gateway_id
        limit 1
        for update;
        if not found then
            raise exception 'no gateway is available for organisation %', p_organization_id
                using errcode = 'BGA01', hint = 'gateway.func_gateway_stats() shows what the pool holds';
        end if;
    end if;
    update gateway.gateway set free_since = null where gateway_id = v_gateway_id;

    insert into gateway.allocation (gateway_id, organization_id, workflow_id, hostname, created_at)
    values (v_gateway_id, p_organization_id, p_workflow_id, p_hostname, clock_timestamp())
    on conflict (organization_id) where status <> 'ended' do nothing
    returning * into v_allocation;
    if not found then
        -- Another start was faster since we looked; the index made us wait for it.
        raise exception 'organisation % has a gateway already', p_organization_id using errcode = 'BGA02';
    end if;
    return v_allocation;
end
$$;

comment on function gateway.proc_organizations_start_gateway(uuid, uuid, text) is
    'Allocates the gateway that was free for longest. Asked again by the same workflow: the same allocation.';

create function gateway.proc_allocation_begin_stop(p_organization_id uuid, p_workflow_id uuid)
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
    where organization_id = p_organization_id and stopping_workflow_id = p_workflow_id;
    if found then
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

comment on function gateway.proc_allocation_begin_stop(uuid, uuid) is
    'A stop takes the allocation of an organisation over, and is then the only workflow that may end it.';

create function gateway.proc_organizations_gateways_stop(p_gateway_id bigint, p_workflow_id uuid) returns boolean
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

    if exists (select from gateway.allocation where gateway_id = p_gateway_id and ended_by = p_workflow_id) then
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

comment on function gateway.proc_organizations_gateways_stop(bigint, uuid) is
    'Ends the allocation that names this workflow; the gateway is free again unless quarantined. True: ended, now or before.';

create function gateway.proc_gateway_quarantine(p_gateway_id bigint, p_reason text) returns void
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    if p_reason is null or btrim(p_reason) = '' then
        raise exception 'gateway %: say why it is quarantined', p_gateway_id using errcode = 'BGI01';
    end if;
    -- The first reason stays: what came later is its consequence more often than not.
    update gateway.gateway
    set status = 'quarantined', reason = coalesce(reason, p_reason)
    where gateway_id = p_gateway_id;
    if not found then
        raise exception 'there is no gateway %', p_gateway_id using errcode = 'BGN01';
    end if;
end
$$;

comment on function gateway.proc_gateway_quarantine(bigint, text) is
    'The gateway is not handed out again until an operator releases it; who has it keeps it.';

create function gateway.proc_gateway_release(p_gateway_id bigint) returns void
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_gateway gateway.gateway;
begin
    select * into v_gateway from gateway.gateway where gateway_id = p_gateway_id for update;
    if not found then
        raise exception 'there is no gateway %', p_gateway_id using errcode = 'BGN01';
    end if;
    if v_gateway.status <> 'quarantined' then
        return;
    end if;
    if v_gateway.free_since is null then
        raise exception 'gateway % is still allocated', p_gateway_id
            using errcode = 'BGQ02', hint = 'stop the organisation that has it first';
    end if;
    update gateway.gateway
    set status = 'ready', reason = null, free_since = clock_timestamp()
    where gateway_id = p_gateway_id;
end
$$;

comment on function gateway.proc_gateway_release(bigint) is 'An operator has seen to the gateway: out of quarantine.';

create function gateway.func_organizations_get_active_gateway(p_organization_id uuid)
    returns setof gateway.allocation
    language sql stable
    security definer
    set search_path = pg_catalog, pg_temp
begin atomic
    select *
    from gateway.allocation
    where organization_id = p_organization_id and status <> 'ended';
end;

comment on function gateway.func_organizations_get_active_gateway(uuid) is
    'The allocation of an organisation, active or stopping; no row if it has none.';

create function gateway.func_gateway_stats(
    out total bigint,
    out fresh bigint,
    out ready bigint,
    out allocated bigint,
    out stopping bigint,
    out quarantined bigint
)
    language sql stable
    security definer
    set search_path = pg_catalog, pg_temp
begin atomic
    select
        count(*),
        count(*) filter (where state = 'new'),
        count(*) filter (where state = 'ready'),
        count(*) filter (where state = 'allocated'),
        count(*) filter (where state = 'stopping'),
        count(*) filter (where state = 'quarantined')
    from gateway.gateways;
end;

comment on function gateway.func_gateway_stats() is
    'How many gateways there are in each state; the states sum up to the total. Fresh: new, not yet set ready.';

-- Execute is everybody's by default; these are for whom an administrator grants them to.
revoke execute on all functions in schema gateway from public;
