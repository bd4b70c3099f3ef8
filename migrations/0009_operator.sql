-- What an operator decides: to leave a step, to say what became of one, to let a workflow be, to hold back and let go.
--
-- All of it waits for the row in `ready`, as a claim does, and only while nobody holds the workflow: so it comes before a
-- worker's next record or after its last, never between. Each decision is a row of the journal that says who and why.
-- With a token it may be repeated after an answer that was lost: the second time it finds the first.

-- Not looked through here, where it would hold everybody up: 0012 does.
alter table backstitch.workflow drop constraint status_is_known;
alter table backstitch.workflow
    add constraint status_is_known check (status in ('live', 'completed', 'compensated', 'abandoned')) not valid;

alter table backstitch.ready add paused jsonb;
comment on column backstitch.ready.paused is
    'Who paused it, why, and when it was due. It counts while due_at is infinity: whatever makes it due again ends the pause.';

create table backstitch.paused_kind (
    kind text primary key,
    by text not null,
    why text not null,
    paused_at timestamptz not null
);

comment on table backstitch.paused_kind is 'Kinds of which nothing is claimed until somebody resumes them. What is under way goes on.';

create function backstitch.check_operator(p_verb text, p_what text, p_by text, p_why text)
    returns void
    language plpgsql
    set search_path = pg_catalog
as $$
begin
    if octet_length(coalesce(p_by, '')) not between 1 and 200 or octet_length(coalesce(p_why, '')) not between 1 and 2000 then
        raise exception '% %: say who decides, in 1 to 200 bytes, and why, in 1 to 2000', p_verb, p_what
            using errcode = 'BSI01';
    end if;
end
$$;

comment on function backstitch.check_operator(text, text, text, text) is
    'A part of the verbs of an operator: refuses a decision without a name or a reason.';

create function backstitch.may_decide(p_workflow uuid, p_turn text, p_by text, p_why text, p_token uuid)
    returns text
    language plpgsql
    set search_path = pg_catalog
as $$
declare
    v_ready record;
    v_is_live boolean;
begin
    perform backstitch.check_operator(p_turn, p_workflow::text, p_by, p_why);
    select r.holder into v_ready from backstitch.ready r where r.workflow_id = p_workflow for update;
    v_is_live := found;
    if p_token is not null then
        perform from backstitch.journal j
        where j.workflow_id = p_workflow
            and j.turn = p_turn
            and j.turn_value ->> 'token' = p_token::text;
        if found then
            return 'accepted';
        end if;
    end if;
    if not v_is_live then
        perform from backstitch.workflow w where w.workflow_id = p_workflow;
        return case when found then 'has_ended' else 'not_found' end;
    end if;
    return case when v_ready.holder is not null then 'is_running' end;
end
$$;

comment on function backstitch.may_decide(uuid, text, text, text, uuid) is
    'A part of the verbs of an operator: locks a workflow that nobody holds. Null: go on; else the answer.';

create function backstitch.write_decision(p_workflow uuid, p_turn text, p_value jsonb)
    returns void
    language sql
    set search_path = pg_catalog
begin atomic
    insert into backstitch.journal (workflow_id, seq, epoch, written_at, turn, turn_value)
    select p_workflow,
        coalesce((select max(j.seq) + 1 from backstitch.journal j where j.workflow_id = p_workflow), 0),
        r.epoch, backstitch.clock(), p_turn, p_value::json
    from backstitch.ready r
    where r.workflow_id = p_workflow;
    -- Epoch 1 tells its holder that there is no journal to read; now there is one.
    update backstitch.ready r set epoch = greatest(r.epoch, 1) where r.workflow_id = p_workflow;
end;

comment on function backstitch.write_decision(uuid, text, jsonb) is
    'A part of the verbs of an operator: the row of the journal. The caller holds the lock of the row in ready.';

create function backstitch.due_now(p_workflow uuid)
    returns void
    language sql
    set search_path = pg_catalog
begin atomic
    update backstitch.ready r set due_at = backstitch.clock(), paused = null where r.workflow_id = p_workflow;
    select backstitch.wake();
end;

comment on function backstitch.due_now(uuid) is 'A part of the verbs of an operator: a decision is acted upon at once.';

create function backstitch.skip_step(p_workflow uuid, p_position integer, p_by text, p_why text, p_token uuid default null)
    returns text
    language plpgsql
    set search_path = pg_catalog
as $$
declare
    v_answer text := backstitch.may_decide(p_workflow, 'skip_step', p_by, p_why, p_token);
    v_step record;
begin
    if v_answer is not null then
        return v_answer;
    end if;
    perform from backstitch.ready r where r.workflow_id = p_workflow and r.phase = 'compensating';
    if not found then
        return 'is_not_compensating';
    end if;
    select s.backward, s.status, s.run_attempts into v_step
    from backstitch.steps s
    where s.workflow_id = p_workflow
        and s.position = p_position;
    if not found then
        return 'no_such_step';
    end if;
    if v_step.status = 'skipped' then
        return 'accepted';
    end if;
    if v_step.backward not in ('after_all_later', 'independent')
        or v_step.status = 'compensated'
        -- Of an only attempt it is believed that nothing happened.
        or v_step.status = 'rejected' and v_step.run_attempts = 1
    then
        return 'owes_nothing';
    end if;
    perform backstitch.write_decision(
        p_workflow,
        'skip_step',
        jsonb_strip_nulls(jsonb_build_object('position', p_position, 'by', p_by, 'why', p_why, 'token', p_token))
    );
    perform backstitch.due_now(p_workflow);
    return 'accepted';
end
$$;

comment on function backstitch.skip_step(uuid, integer, text, text, uuid) is
    'Says that a step need not be taken back any more, so that the way back goes on: accepted, or is_not_compensating, no_such_step, owes_nothing, is_running, has_ended, not_found.';

create function backstitch.resolve(
    p_workflow uuid,
    p_position integer,
    p_happened boolean,
    p_by text,
    p_why text,
    p_output jsonb default null,
    p_token uuid default null
)
    returns text
    language plpgsql
    set search_path = pg_catalog
as $$
declare
    v_answer text := backstitch.may_decide(p_workflow, 'resolve', p_by, p_why, p_token);
    v_last record;
    v_value jsonb;
begin
    if v_answer is not null then
        return v_answer;
    end if;
    if p_happened is null or (p_output is not null and not p_happened) then
        raise exception 'resolve %: say whether step % happened; only then it has an output', p_workflow, p_position
            using errcode = 'BSI01';
    end if;
    -- As much as a step may hand over by itself.
    if octet_length(p_output::text) > 65536 then
        raise exception 'resolve %: the output is % bytes of JSON, more than the 65536 allowed',
            p_workflow, octet_length(p_output::text)
            using errcode = 'BSI01';
    end if;
    select a.outcome into v_last
    from backstitch.attempts a
    where a.workflow_id = p_workflow
        and a.position = p_position
        and a.direction = 'run'
    order by a.attempt desc
    limit 1;
    if not found then
        return 'no_such_step';
    end if;
    perform from backstitch.journal j
    where j.workflow_id = p_workflow
        and j.turn = 'resolve'
        and (j.turn_value ->> 'position')::integer = p_position
        -- One that did not happen is run again, and may then be in doubt again; on the way back, or failed, it is not.
        and (
            (j.turn_value ->> 'happened')::boolean
            or v_last.outcome = 'failed_in_doubt'
            or exists (select from backstitch.ready r where r.workflow_id = p_workflow and r.phase = 'compensating')
        );
    if v_last.outcome in ('succeeded', 'failed', 'rejected') or found then
        return 'is_not_in_doubt';
    end if;
    v_value := jsonb_strip_nulls(
        jsonb_build_object(
            'position', p_position, 'happened', p_happened, 'by', p_by, 'why', p_why, 'token', p_token
        )
    );
    -- Apart: a null inside of an output is kept.
    if p_output is not null then
        v_value := v_value || jsonb_build_object('output', p_output);
    end if;
    perform backstitch.write_decision(p_workflow, 'resolve', v_value);
    perform backstitch.due_now(p_workflow);
    return 'accepted';
end
$$;

comment on function backstitch.resolve(uuid, integer, boolean, text, text, jsonb, uuid) is
    'Says what became of a step of which nobody knows: it happened, with this output, or it did not. accepted, or no_such_step, is_not_in_doubt, is_running, has_ended, not_found.';

create function backstitch.abandon(p_workflow uuid, p_by text, p_why text, p_token uuid default null)
    returns text
    language plpgsql
    set search_path = pg_catalog
as $$
declare
    v_answer text := backstitch.may_decide(p_workflow, 'abandoned', p_by, p_why, p_token);
    v_now timestamptz := backstitch.clock();
begin
    if v_answer is not null then
        return v_answer;
    end if;
    perform from backstitch.ready r where r.workflow_id = p_workflow and r.attention;
    if not found then
        return 'needs_no_attention';
    end if;
    perform backstitch.write_decision(
        p_workflow, 'abandoned', jsonb_strip_nulls(jsonb_build_object('by', p_by, 'why', p_why, 'token', p_token))
    );
    update backstitch.workflow w
    set status = 'abandoned',
        error = coalesce(
            w.error,
            jsonb_build_object(
                'failure', jsonb_build_object('code', 'abandoned', 'message', format('abandoned by %s: %s', p_by, p_why))
            )
        ),
        finished_at = v_now
    where w.workflow_id = p_workflow;
    delete from backstitch.ready r where r.workflow_id = p_workflow;
    update backstitch.alert a set resolved_at = v_now where a.workflow_id = p_workflow and a.resolved_at is null;
    return 'accepted';
end
$$;

comment on function backstitch.abandon(uuid, text, text, uuid) is
    'Ends a workflow that needs attention as it is; what its report calls owed stays outside. accepted, or needs_no_attention, is_running, has_ended, not_found.';

create function backstitch.pause(p_workflow uuid, p_by text, p_why text, p_token uuid default null)
    returns text
    language plpgsql
    set search_path = pg_catalog
as $$
declare
    v_answer text := backstitch.may_decide(p_workflow, 'pause', p_by, p_why, p_token);
begin
    if v_answer is not null then
        return v_answer;
    end if;
    update backstitch.ready r
    set due_at = 'infinity',
        paused = jsonb_build_object('by', p_by, 'why', p_why, 'due_at', r.due_at)
    where r.workflow_id = p_workflow
        and r.due_at < 'infinity';
    if found then
        perform backstitch.write_decision(
            p_workflow, 'pause', jsonb_strip_nulls(jsonb_build_object('by', p_by, 'why', p_why, 'token', p_token))
        );
    end if;
    return 'accepted';
end
$$;

comment on function backstitch.pause(uuid, text, text, uuid) is
    'Holds a waiting workflow back until it is resumed, retried or cancelled: accepted (also when it already was), or is_running, has_ended, not_found.';

create function backstitch.resume(p_workflow uuid, p_by text, p_why text, p_token uuid default null)
    returns text
    language plpgsql
    set search_path = pg_catalog
as $$
declare
    v_answer text := backstitch.may_decide(p_workflow, 'resume', p_by, p_why, p_token);
begin
    if v_answer is not null then
        return v_answer;
    end if;
    update backstitch.ready r
    set due_at = (r.paused ->> 'due_at')::timestamptz,
        paused = null
    where r.workflow_id = p_workflow
        and r.due_at = 'infinity';
    if not found then
        return 'is_not_paused';
    end if;
    perform backstitch.write_decision(
        p_workflow, 'resume', jsonb_strip_nulls(jsonb_build_object('by', p_by, 'why', p_why, 'token', p_token))
    );
    perform backstitch.wake();
    return 'accepted';
end
$$;

comment on function backstitch.resume(uuid, text, text, uuid) is
    'Ends a pause: due again when it was due before. accepted, or is_not_paused, is_running, has_ended, not_found.';

create function backstitch.pause_kind(p_kind text, p_by text, p_why text)
    returns void
    language plpgsql
    set search_path = pg_catalog
as $$
begin
    perform backstitch.check_operator('pause', 'kind ' || p_kind, p_by, p_why);
    insert into backstitch.paused_kind (kind, by, why, paused_at)
    values (p_kind, p_by, p_why, backstitch.clock())
    on conflict do nothing;
end
$$;

comment on function backstitch.pause_kind(text, text, text) is
    'Nothing of this kind is claimed until it is resumed. What is under way goes on. The first pause counts.';

create function backstitch.resume_kind(p_kind text, p_by text, p_why text)
    returns boolean
    language plpgsql
    set search_path = pg_catalog
as $$
begin
    perform backstitch.check_operator('resume', 'kind ' || p_kind, p_by, p_why);
    delete from backstitch.paused_kind p where p.kind = p_kind;
    if found then
        perform backstitch.wake();
    end if;
    return found;
end
$$;

comment on function backstitch.resume_kind(text, text, text) is 'Ends the pause of a kind. False: it was not paused.';

-- Before a claim looks for what is due, the paused kinds are left out, for workers of the previous version too.
alter function backstitch.claim(integer, text[], text[], integer, integer) rename to claim_due;
comment on function backstitch.claim_due(integer, text[], text[], integer, integer) is
    'A part of claim: of kinds that are not paused.';

create function backstitch.claim(
    p_incarnation integer,
    p_queues text[],
    p_kinds text[],
    p_limit integer,
    p_suspects integer
)
    returns table (
        workflow_id uuid,
        kind text,
        input text,
        epoch integer,
        attention boolean,
        orphaned text,
        cancel jsonb,
        crash_charges integer,
        deadline_at timestamptz,
        now timestamptz,
        journal text
    )
    language plpgsql
    set search_path = pg_catalog
    set enable_seqscan = off
    set plan_cache_mode = force_generic_plan
    set jit = off
    rows 100
as $$
begin
    if exists (select from backstitch.paused_kind) then
        p_kinds := array(
            select k.kind
            from unnest(p_kinds) k (kind)
            where not exists (select from backstitch.paused_kind p where p.kind = k.kind)
        );
    end if;
    return query select * from backstitch.claim_due(p_incarnation, p_queues, p_kinds, p_limit, p_suspects);
end
$$;

comment on function backstitch.claim(integer, text[], text[], integer, integer) is
    'Takes due workflows of these queues and kinds, up to a limit, and so many suspects at most, with the journals of those that have one: an array of arrays, its values as text.';

-- For people who read: what is paused shows no due time, for it has none.
create or replace view backstitch.workflows as
select w.workflow_id,
    w.kind,
    w.version,
    w.key,
    w.queue,
    case
        when w.status <> 'live' then w.status
        when r.attention then 'needs_attention'
        else r.phase
    end as status,
    w.input,
    w.output,
    w.cause,
    w.error,
    w.report,
    w.enqueued_at,
    w.finished_at,
    w.deadline_at,
    case when r.holder is null then nullif(r.due_at, 'infinity') end as due_at,
    r.holder,
    r.epoch,
    r.cancel,
    r.orphaned,
    r.crash_charges,
    r.workflow_id is not null
        and not exists (
            select from backstitch.incarnation i where i.died_at is null and r.kind = any (i.kinds)
        ) as unserved,
    case when r.holder is null and r.due_at = 'infinity' then r.paused end as paused
from backstitch.workflow w
    left join backstitch.ready r on r.workflow_id = w.workflow_id;

create view backstitch.timeline as
select j.workflow_id,
    j.seq,
    j.written_at,
    j.incarnation,
    coalesce(j.turn, j.outcome, 'began') as event,
    coalesce(j.outcome_position, j.intent_position, (j.turn_value ->> 'position')::integer) as position,
    coalesce(j.outcome_direction, j.intent_direction) as direction,
    coalesce(j.outcome_attempt, j.intent_attempt) as attempt,
    case when j.turn is not null then j.turn_value ->> 'by' end as by,
    case when j.turn is not null then j.turn_value ->> 'why' end as why,
    case when j.turn is not null then j.turn_value when j.outcome <> 'succeeded' then j.outcome_value end as detail,
    j.intent_step as began
from backstitch.journal j;

comment on view backstitch.timeline is
    'A workflow''s journal, a line each: what ended or was decided, by whom and why, and which step began with the same write.';

-- What was decided about a step counts like an attempt of its own direction, so that a journal is still read a few times, not
-- once a step.
create or replace view backstitch.steps as
select a.workflow_id,
    a.position,
    a.step,
    a.version,
    a.backward,
    case
        when a.compensate_outcome = 'succeeded' then 'compensated'
        when a.is_skipped then 'skipped'
        when a.compensate_attempts > 0 then 'compensating'
        when a.run_outcome = 'succeeded' or a.has_happened then 'completed'
        when a.run_outcome in ('failed', 'rejected') then a.run_outcome
        when a.run_outcome is null then 'in_progress'
        else 'waiting'
    end as status,
    a.run_attempts,
    a.compensate_attempts,
    a.began_at,
    a.run_ended_at as ended_at,
    a.compensate_ended_at as compensated_at,
    a.input,
    case
        when a.run_outcome = 'succeeded' then a.run_value
        when a.has_happened then coalesce(a.resolved_output, 'null')
    end as output,
    a.run_failure as error,
    a.compensate_failure as compensate_error
from (
        select workflow_id,
            position,
            max(step) filter (where direction = 'run') as step,
            max(version) filter (where direction = 'run' and attempt = 1) as version,
            max(backward) filter (where direction = 'run' and attempt = 1) as backward,
            min(began_at) filter (where direction = 'run') as began_at,
            (array_agg(input) filter (where direction = 'run' and attempt = 1))[1] as input,
            count(*) filter (where direction = 'run') as run_attempts,
            (array_agg(outcome order by attempt desc) filter (where direction = 'run'))[1] as run_outcome,
            (array_agg(value order by attempt desc) filter (where direction = 'run'))[1] as run_value,
            (array_agg(value order by attempt desc) filter (where direction = 'run' and outcome <> 'succeeded'))[1]
                as run_failure,
            max(ended_at) filter (where direction = 'run') as run_ended_at,
            count(*) filter (where direction = 'compensate') as compensate_attempts,
            (array_agg(outcome order by attempt desc) filter (where direction = 'compensate'))[1]
                as compensate_outcome,
            (
                array_agg(value order by attempt desc)
                    filter (where direction = 'compensate' and outcome <> 'succeeded')
            )[1] as compensate_failure,
            max(ended_at) filter (where direction = 'compensate') as compensate_ended_at,
            coalesce(bool_or(direction = 'skip_step'), false) as is_skipped,
            coalesce(bool_or((value ->> 'happened')::boolean) filter (where direction = 'resolve'), false)
                as has_happened,
            (array_agg(value -> 'output') filter (where direction = 'resolve' and (value ->> 'happened')::boolean))[1]
                as resolved_output
        from (
                select a.workflow_id, a.position, a.step, a.version, a.backward, a.direction, a.attempt, a.began_at,
                    a.input, a.outcome, a.value, a.ended_at
                from backstitch.attempts a
                union all
                select j.workflow_id, (j.turn_value ->> 'position')::integer, null, null, null, j.turn, null, null,
                    null, null, j.turn_value, null
                from backstitch.journal j
                where j.turn in ('skip_step', 'resolve')
            ) told
        group by workflow_id, position
    ) a;

comment on view backstitch.steps is
    'Every step begun: in_progress, waiting, completed, failed, rejected, compensating, compensated or skipped.';

revoke all on table backstitch.paused_kind, backstitch.timeline from public;
revoke all on all functions in schema backstitch from public;
