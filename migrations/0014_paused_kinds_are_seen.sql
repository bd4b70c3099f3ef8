-- Whoever looks at the kinds sees which of them are paused, by whom and why; also one that nobody serves and nothing waits for.

create or replace view backstitch.kinds as
select k.kind,
    coalesce(s.served_by, 0) as served_by,
    coalesce(l.pending, 0) as pending,
    coalesce(l.running, 0) as running,
    coalesce(l.compensating, 0) as compensating,
    coalesce(l.needs_attention, 0) as needs_attention,
    coalesce(l.held, 0) as held,
    l.oldest_due_at,
    case when p.kind is not null then jsonb_build_object('by', p.by, 'why', p.why) end as paused
from (
        select r.kind from backstitch.ready r
        union
        select unnest(i.kinds) from backstitch.incarnation i where i.died_at is null
        union
        select p.kind from backstitch.paused_kind p
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
    ) l on l.kind = k.kind
    left join backstitch.paused_kind p on p.kind = k.kind;

comment on view backstitch.kinds is
    'Every kind that a living worker serves, a live workflow is of, or somebody has paused, counted exactly: one look at what is live, whatever has ended.';
comment on column backstitch.kinds.paused is
    'Who has paused it, and why: nothing of it is taken up until somebody resumes it. Null: nobody.';
