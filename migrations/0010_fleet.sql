-- Who works, at what, and how much there is: three views for operators. Nothing on the way of a workflow pays for them.
--
-- No index: one on how workflows ended would be written at every end, and would keep the last version of a workflow from
-- staying on its page. What has ended is looked at by id instead, from the newest on, or counted on some of its pages.

alter table backstitch.incarnation add column beat_at timestamptz;

comment on column backstitch.incarnation.beat_at is
    'When its last heartbeat came. Null: none yet, or none since this column is there.';

-- As it was, and tells when.
create or replace function backstitch.beat(p_incarnation integer, p_lease interval)
    returns table (alive boolean, cancelled uuid[])
    language plpgsql
    set search_path = pg_catalog
as $$
declare
    v_now timestamptz := backstitch.clock();
begin
    update backstitch.incarnation i
    set beat = i.beat + 1,
        beat_at = v_now,
        lease_until = v_now + p_lease
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

create view backstitch.workers as
select i.incarnation_id as incarnation,
    i.host,
    i.pid,
    i.version,
    i.kinds,
    i.died_at is null as alive,
    i.began_at,
    coalesce(i.beat_at, i.began_at) as beat_at,
    case when i.died_at is null then backstitch.clock() - coalesce(i.beat_at, i.began_at) end as beat_age,
    case when i.died_at is null then i.lease_until - backstitch.clock() end as lease_left,
    i.died_at,
    i.death,
    (select count(*) from backstitch.ready r where r.holder = i.incarnation_id) as held
from backstitch.incarnation i;

comment on view backstitch.workers is
    'Every life of a worker process, and how many workflows it holds. Alive: not buried; its lease may be over.';
comment on column backstitch.workers.beat_age is 'How long ago its last heartbeat came. Null: it is dead.';
comment on column backstitch.workers.lease_left is
    'How long it may still begin effects. Negative: its lease is over and it waits to be buried. Null: it is dead.';
comment on column backstitch.workers.held is 'How many workflows it works on right now.';

create view backstitch.kinds as
select k.kind,
    coalesce(s.served_by, 0) as served_by,
    coalesce(l.pending, 0) as pending,
    coalesce(l.running, 0) as running,
    coalesce(l.compensating, 0) as compensating,
    coalesce(l.needs_attention, 0) as needs_attention,
    coalesce(l.held, 0) as held,
    l.oldest_due_at
from (
        select r.kind from backstitch.ready r
        union
        select unnest(i.kinds) from backstitch.incarnation i where i.died_at is null
    ) k
    left join (
        select u.kind, count(*) as served_by
        from backstitch.incarnation i
            cross join lateral unnest(i.kinds) u (kind)
        where i.died_at is null
        group by u.kind
    ) s on s.kind = k.kind
    left join (
        select r.kind,
            count(*) filter (where r.phase = 'pending' and not r.attention) as pending,
            count(*) filter (where r.phase = 'running' and not r.attention) as running,
            count(*) filter (where r.phase = 'compensating' and not r.attention) as compensating,
            count(*) filter (where r.attention) as needs_attention,
            count(*) filter (where r.holder is not null) as held,
            min(r.due_at) filter (where r.holder is null and r.due_at <= backstitch.clock()) as oldest_due_at
        from backstitch.ready r
        group by r.kind
    ) l on l.kind = k.kind;

comment on view backstitch.kinds is
    'Every kind that a living worker serves or a live workflow is of, counted exactly: one look at what is live, whatever has ended.';
comment on column backstitch.kinds.served_by is 'By how many living workers. 0 with live workflows: they wait for one.';
comment on column backstitch.kinds.pending is 'Never taken up.';
comment on column backstitch.kinds.held is 'How many of all these a worker works on right now.';
comment on column backstitch.kinds.oldest_due_at is
    'Since when the longest waiting one could have been taken up. Null: nothing that is due waits.';

create view backstitch.stats as
with size as (
    select greatest(pg_relation_size('backstitch.workflow') / current_setting('block_size')::bigint, 1) as pages
),
live as (
    select case when r.attention then 'needs_attention' else r.phase end as status, count(*) as workflows
    from backstitch.ready r
    group by 1
),
-- A thousand pages, picked evenly: some ten milliseconds, however many there are. The same ones at each look, so that two
-- looks differ by what has changed.
ended as (
    select w.status, count(*) as seen
    from backstitch.workflow w tablesample system (least(100, 100 * 1000.0 / (select z.pages from size z))) repeatable (0)
    where w.status <> 'live'
    group by w.status
)
select s.status,
    case
        when s.is_live then coalesce(l.workflows, 0)
        else round(coalesce(e.seen, 0) * greatest(z.pages / 1000.0, 1))::bigint
    end as workflows,
    s.is_live or z.pages <= 1000 as is_exact
from (
        values (1, 'pending', true),
            (2, 'running', true),
            (3, 'compensating', true),
            (4, 'needs_attention', true),
            (5, 'completed', false),
            (6, 'compensated', false),
            (7, 'abandoned', false)
    ) s (place, status, is_live)
    cross join size z
    left join live l on l.status = s.status
    left join ended e on e.status = s.status
order by s.place;

comment on view backstitch.stats is
    'How many workflows have each status. Live ones are counted. Ended ones too while their table has up to 1,000 pages, some 25,000 workflows; beyond, they are estimated from so many of its pages.';
comment on column backstitch.stats.is_exact is 'Counted. False: estimated.';

-- Nothing is PUBLIC's.
revoke all on table backstitch.workers, backstitch.kinds, backstitch.stats from public;
