-- Which gateways there are, and which of them serves whom on behalf of which workflow.
--
-- The functions are all that anybody needs; they keep their names from before, and are made safe: an allocation names
-- the workflow that made it, asking twice answers with what exists, and two starts never get one gateway.

create schema if not exists gateway;

comment on schema gateway is
    'The pool of gateways. Write only through the functions of this schema.';

create table gateway.gateway (
    gateway_id bigint generated always as identity primary key,
    name text not null,
    upstream_address inet not null,
    upstream_port integer not null,
    upstream text not null generated always as (
        case family(upstream_address)
            when 6 then '[' || host(upstream_address) || ']'
            else host(upstream_address)
        end || ':' || upstream_port
    ) stored,
    status text not null default 'new',
    reason text,
    created_at timestamptz not null,
    free_since timestamptz,

    constraint a_name_belongs_to_one_gateway unique (name),
    constraint an_upstream_belongs_to_one_gateway unique (upstream_address, upstream_port),
    constraint name_is_letters_digits_and_hyphens check (name ~ '^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$'),
    constraint upstream_is_one_host check (masklen(upstream_address) = case family(upstream_address) when 4 then 32 else 128 end),
    constraint upstream_port_is_a_port check (upstream_port between 1 and 65535),
    constraint status_is_known check (status in ('new', 'ready', 'quarantined')),
    constraint quarantined_has_a_reason check ((status = 'quarantined') = (reason is not null))
);

comment on table gateway.gateway is 'A process that can serve one organisation at a time.';
comment on column gateway.gateway.upstream is 'Where it listens, as a proxy is told: 10.0.0.7:8080 or [fd00::7]:8080.';
comment on column gateway.gateway.status is 'new: not yet for use. ready: handed out when free. quarantined: not handed out.';
comment on column gateway.gateway.reason is 'Why it is quarantined.';
comment on column gateway.gateway.free_since is
    'Since when nobody has it; null while it is allocated. Written by both, so that whoever waited for the row sees it.';

create index gateway_free_longest on gateway.gateway (free_since, gateway_id)
    where status = 'ready' and free_since is not null;

create table gateway.allocation (
    allocation_id bigint generated always as identity primary key,
    gateway_id bigint not null references gateway.gateway,
    organization_id uuid not null,
    workflow_id uuid not null,
    stopping_workflow_id uuid,
    status text not null default 'active',
    hostname text,
    created_at timestamptz not null,
    stopping_at timestamptz,
    ended_at timestamptz,
    ended_by uuid,

    constraint a_workflow_allocates_once unique (workflow_id),
    constraint status_is_known check (status in ('active', 'stopping', 'ended')),
    constraint hostname_is_the_organisations check (hostname like 'org-' || organization_id || '.%'),
    constraint stopping_names_its_workflow check (
        status <> 'stopping' or (stopping_workflow_id is not null and stopping_at is not null)
    ),
    constraint ended_has_a_time_and_a_workflow check (
        (status = 'ended') = (ended_at is not null) and (status = 'ended') = (ended_by is not null)
    ),
    constraint only_the_workflow_it_names_ends_it check (
        ended_by is null or ended_by = coalesce(stopping_workflow_id, workflow_id)
    )
);

comment on table gateway.allocation is 'A gateway serves an organisation, from a start to its end.';
comment on column gateway.allocation.workflow_id is 'The start that made it; DNS record and vhost carry this id.';
comment on column gateway.allocation.stopping_workflow_id is
    'The stop that took it over, and is from then on the only one that may end it.';
comment on column gateway.allocation.ended_by is 'The workflow that ended it: the stop that took it over, else the start.';

create unique index a_gateway_serves_one_organisation on gateway.allocation (gateway_id) where status <> 'ended';
create unique index an_organisation_has_one_gateway on gateway.allocation (organization_id) where status <> 'ended';

create view gateway.gateways as
select
    g.gateway_id,
    g.name,
    g.upstream,
    case
        when g.status in ('quarantined', 'new') then g.status
        when a.status = 'active' then 'allocated'
        when a.status = 'stopping' then 'stopping'
        else 'ready'
    end as state,
    g.reason,
    a.organization_id,
    a.workflow_id,
    a.hostname,
    a.created_at as allocated_at,
    g.free_since
from gateway.gateway as g
left join gateway.allocation as a on a.gateway_id = g.gateway_id and a.status <> 'ended';

comment on view gateway.gateways is 'Every gateway in one word: new, ready, allocated, stopping or quarantined.';
