-- A workflow that an operator let be has ended, but what it left may still stand: for its organisation it needs attention until
-- somebody has ended its allocation by hand.

create or replace function gateway.workflow_is_live(p_workflow_id uuid) returns boolean
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    return exists (
        select
        from backstitch.workflows
        where workflow_id = p_workflow_id
            and status not in ('completed', 'compensated', 'abandoned')
    );
end
$$;

create or replace function gateway.organization_standing(
    p_organization_id uuid,
    out live_workflow_id uuid,
    out live_kind text,
    out live_status text,
    out is_cancelled boolean,
    out gateway_id bigint,
    out upstream text,
    out hostname text,
    out allocation_status text,
    out start_workflow_id uuid,
    out stop_workflow_id uuid
)
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    insert into gateway.organization (organization_id)
    values (p_organization_id)
    on conflict do nothing;
    perform
    from gateway.organization o
    where o.organization_id = p_organization_id
    for update;

    select w.workflow_id, w.kind, case w.status when 'abandoned' then 'needs_attention' else w.status end,
        w.cancel is not null,
        a.gateway_id, g.upstream, a.hostname, a.status, a.workflow_id, a.stopping_workflow_id
    into live_workflow_id, live_kind, live_status, is_cancelled,
        gateway_id, upstream, hostname, allocation_status, start_workflow_id, stop_workflow_id
    from gateway.organization o
        left join gateway.allocation a
            on a.organization_id = o.organization_id
            and a.status <> 'ended'
        left join gateway.gateway g on g.gateway_id = a.gateway_id
        left join backstitch.workflows w
            on w.workflow_id in (o.start_workflow_id, o.stop_workflow_id, a.workflow_id, a.stopping_workflow_id)
            and w.status not in ('completed', 'compensated')
            and (w.status <> 'abandoned' or a.status is not null)
    where o.organization_id = p_organization_id
    -- A stop before a start: whoever asks has to wait for the stop either way.
    order by w.kind desc nulls last
    limit 1;
end
$$;
