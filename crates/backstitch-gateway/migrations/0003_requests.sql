-- What the platform asks: serve this organisation, serve it no more; one workflow at a time for each organisation.
--
-- Both functions lock the organisation's row first, so of two that ask at once the second sees what the first asked for.
-- Workflow and allocation are looked at in one statement, by one snapshot: a start that ends meanwhile is seen with its
-- allocation, or not at all.

create table gateway.organization (
    organization_id uuid primary key,
    generation integer not null default 0,
    start_workflow_id uuid,
    stop_workflow_id uuid,

    constraint generations_are_counted_from_0 check (generation >= 0)
);

comment on table gateway.organization is 'Which workflows were asked for last. Its row is the lock behind which is asked.';
comment on column gateway.organization.generation is
    'Counts the workflows asked for; {organization}/{generation} is the idempotency key of the last one.';
comment on column gateway.organization.start_workflow_id is 'The last start. Null: none yet.';
comment on column gateway.organization.stop_workflow_id is 'The last stop. Null: none yet.';

create function gateway.workflow_is_live(p_workflow_id uuid) returns boolean
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    return exists (
        select
        from backstitch.workflows
        where workflow_id = p_workflow_id
            and status not in ('completed', 'compensated')
    );
end
$$;

comment on function gateway.workflow_is_live(uuid) is 'Whether there is such a workflow, and it has not ended.';

-- Where an organisation stands. Also a workflow that was asked for past these functions is seen, once it has allocated.
create function gateway.organization_standing(
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

    select w.workflow_id, w.kind, w.status, w.cancel is not null,
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
    where o.organization_id = p_organization_id
    -- A stop before a start: whoever asks has to wait for the stop either way.
    order by w.kind desc nulls last
    limit 1;
end
$$;

comment on function gateway.organization_standing(uuid) is
    'Locks the organisation, and says what is under way for it and which gateway it has.';

-- The key outlives a workflow: one that somebody used by hand, and whose workflow has ended, is passed over.
create function gateway.enqueue_generation(p_organization_id uuid, p_kind text, p_deadline_at timestamptz) returns uuid
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_generation integer;
    v_workflow_id uuid;
begin
    loop
        update gateway.organization o
        set generation = o.generation + 1
        where o.organization_id = p_organization_id
        returning o.generation into v_generation;
        v_workflow_id := backstitch.enqueue(
            p_kind,
            jsonb_build_object('organization', p_organization_id),
            p_key => p_organization_id || '/' || v_generation,
            p_deadline_at => p_deadline_at
        );
        exit when gateway.workflow_is_live(v_workflow_id);
    end loop;
    return v_workflow_id;
end
$$;

comment on function gateway.enqueue_generation(uuid, text, timestamptz) is
    'Asks for a workflow under the next key of the organisation, whose row is locked.';

create function gateway.request_start(
    p_organization_id uuid,
    p_deadline_at timestamptz default null,
    out answer text,
    out workflow_id uuid,
    out gateway_id bigint,
    out upstream text,
    out hostname text
)
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_standing record;
begin
    if p_organization_id is null then
        raise exception 'say which organisation is to be served' using errcode = 'BGI01';
    end if;
    select * into v_standing from gateway.organization_standing(p_organization_id);
    if v_standing.live_workflow_id is not null then
        workflow_id := v_standing.live_workflow_id;
        answer := case
            when v_standing.live_status = 'needs_attention' then 'needs_attention'
            when v_standing.live_kind = 'gateway.stop' then 'stopping'
            -- Nobody joins a start that is on its way back: whoever asks now wants a new one.
            when v_standing.live_status = 'compensating' or v_standing.is_cancelled then 'compensating'
            else 'starting'
        end;
        return;
    end if;

    if v_standing.allocation_status = 'active' then
        answer := 'active';
        workflow_id := v_standing.start_workflow_id;
        gateway_id := v_standing.gateway_id;
        upstream := v_standing.upstream;
        hostname := v_standing.hostname;
        return;
    end if;
    if v_standing.allocation_status = 'stopping' then
        raise exception 'organisation % is being stopped by workflow %, which is not under way any more',
            p_organization_id, v_standing.stop_workflow_id
            using errcode = 'BGA06', hint = 'see what it left, then end its allocation by hand';
    end if;

    answer := 'started';
    workflow_id := gateway.enqueue_generation(p_organization_id, 'gateway.start', p_deadline_at);
    update gateway.organization o
    set start_workflow_id = request_start.workflow_id
    where o.organization_id = p_organization_id;
end
$$;

comment on function gateway.request_start(uuid, timestamptz) is
    'Asks that an organisation be served. active: it is. started, starting: by this workflow, new or joined. compensating, stopping: ask again when this workflow has ended. needs_attention: a person must see to this workflow first.';

create function gateway.request_stop(
    p_organization_id uuid,
    out answer text,
    out workflow_id uuid
)
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_standing record;
begin
    if p_organization_id is null then
        raise exception 'say which organisation is to be served no more' using errcode = 'BGI01';
    end if;
    select * into v_standing from gateway.organization_standing(p_organization_id);
    workflow_id := v_standing.live_workflow_id;
    if workflow_id is not null then
        if v_standing.live_kind = 'gateway.start' then
            -- Too late or not: it has to end first.
            perform backstitch.cancel(workflow_id, 'gateway.request_stop', 'the organisation is to be served no more');
        end if;
        answer := case
            when v_standing.live_status = 'needs_attention' then 'needs_attention'
            when v_standing.live_kind = 'gateway.start' then 'compensating'
            else 'stopping'
        end;
        return;
    end if;

    if v_standing.gateway_id is null then
        answer := 'stopped';
        return;
    end if;
    if v_standing.allocation_status = 'stopping' then
        raise exception 'organisation % is being stopped by workflow %, which is not under way any more',
            p_organization_id, v_standing.stop_workflow_id
            using errcode = 'BGA06', hint = 'see what it left, then end its allocation by hand';
    end if;

    answer := 'stopping';
    workflow_id := gateway.enqueue_generation(p_organization_id, 'gateway.stop', null);
    update gateway.organization o
    set stop_workflow_id = request_stop.workflow_id
    where o.organization_id = p_organization_id;
end
$$;

comment on function gateway.request_stop(uuid) is
    'Asks that an organisation be served no more. stopped: it is not. stopping: by this workflow, new or joined. compensating: its start is taken back, ask again when this workflow has ended. needs_attention: a person must see to this workflow first.';

revoke execute on all functions in schema gateway from public;
