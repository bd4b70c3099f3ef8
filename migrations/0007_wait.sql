-- Whoever waits for workflows is told when one has ended or needs a person, and costs those nothing who wait for none.

-- Whether anybody waits is asked with an advisory lock: waiters hold it shared, and it can be had alone only when there are
-- none. Given back at once, not at the commit: two appends at a time would take each other for a waiter, and commits that
-- notify take turns. In one expression: nothing interrupts it between the two.
--
-- So one that asks just before the first waiter listens ends in silence, a commit later. That waiter looks again soon.
create function backstitch.announce_settled() returns trigger
    language plpgsql
    set search_path = pg_catalog
as $$
begin
    perform pg_notify('backstitch_settled', '')
    where case
            when pg_try_advisory_lock(backstitch.fence_class() + 3, 0)
                then not pg_advisory_unlock(backstitch.fence_class() + 3, 0)
            else true
        end;
    return null;
end
$$;

comment on function backstitch.announce_settled() is
    'Announces on channel backstitch_settled that workflows have ended or need a person, if anybody waits.';

-- Once a statement, and only with those that end something or call a person: an append that does neither never comes here.
create trigger announce_ends
    after update of status on backstitch.workflow
    for each statement execute function backstitch.announce_settled();

create trigger announce_attention
    after insert on backstitch.alert
    for each statement execute function backstitch.announce_settled();

comment on function backstitch.fence_class() is
    'The class of the fence''s advisory locks, one per incarnation; the next ones are those of the gate of wake(), of retention, and of who waits.';

create function backstitch.expect_announcements() returns void
    language plpgsql volatile
    set search_path = pg_catalog
as $$
begin
    perform pg_advisory_lock_shared(backstitch.fence_class() + 3, 0);
end
$$;

comment on function backstitch.expect_announcements() is
    'Called once in a session that listens on backstitch_settled: while it lives, what settles is announced.';

-- The row in ready says it all: it goes with the end, and knows of attention. One walk down its primary key each, also in
-- a session whose plans were made when the table was empty.
create function backstitch.settled(p_workflows uuid[]) returns setof uuid
    language plpgsql stable
    set search_path = pg_catalog
    set enable_seqscan = off
    set plan_cache_mode = force_generic_plan
    set jit = off
    rows 10
as $$
begin
    return query
        select u.workflow_id
        from unnest(p_workflows) u (workflow_id)
        where (select r.attention from backstitch.ready r where r.workflow_id = u.workflow_id) is not false;
end
$$;

comment on function backstitch.settled(uuid[]) is
    'Which of these workflows nobody needs to wait for: they have ended, need a person, or are none.';

revoke all on function backstitch.announce_settled() from public;
revoke all on function backstitch.expect_announcements() from public;
revoke all on function backstitch.settled(uuid[]) from public;
