-- Who cancels what has not begun need not wait for a worker to say so: there may be none that serves its kind.

create or replace function backstitch.cancel(p_workflow uuid, p_by text, p_why text)
    returns text
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_cancel jsonb := jsonb_build_object('by', left(p_by, 200), 'why', left(p_why, 2000));
    v_ready record;
begin
    if coalesce(p_by, '') = '' or coalesce(p_why, '') = '' then
        raise exception 'cancel %: say who cancels and why', p_workflow using errcode = 'BSI01';
    end if;
    update backstitch.ready r
    set cancel = v_cancel,
        due_at = case when r.holder is null then least(r.due_at, backstitch.clock()) else r.due_at end
    where r.workflow_id = p_workflow
        and r.phase in ('pending', 'running')
        and not r.past_pivot
        and r.cancel is null;
    if found then
        -- The row is locked, so it stays as it is: whoever is about to claim it finds it gone.
        perform from backstitch.ready r
        where r.workflow_id = p_workflow
            and r.holder is null
            and not exists (
                select from backstitch.journal j where j.workflow_id = p_workflow and j.intent_position is not null
            );
        if found then
            perform backstitch.end_unbegun(p_workflow, v_cancel);
        else
            perform pg_notify('backstitch_cancel', p_workflow::text);
        end if;
        return 'accepted';
    end if;
    select r.phase, r.past_pivot, r.cancel into v_ready from backstitch.ready r where r.workflow_id = p_workflow;
    if not found then
        -- Said again, because its answer was lost.
        perform from backstitch.workflow w
        where w.workflow_id = p_workflow
            and w.cause = jsonb_build_object('cause', 'cancelled') || v_cancel
            and w.report -> 'steps' = '[]';
        if found then
            return 'accepted';
        end if;
        perform from backstitch.workflow w where w.workflow_id = p_workflow;
        return case when found then 'has_ended' else 'not_found' end;
    end if;
    return case
        when v_ready.past_pivot then 'past_the_pivot'
        when v_ready.phase = 'compensating' then 'is_compensating'
        else 'accepted'
    end;
end
$$;

comment on function backstitch.cancel(uuid, text, text) is
    'Asks that a workflow be taken back; one that has not begun has ended with this. accepted (also when it already was), or why not: past_the_pivot, is_compensating, has_ended, not_found.';

-- In the words of a worker that finds a workflow cancelled before its first step.
create function backstitch.end_unbegun(p_workflow uuid, p_cancel jsonb)
    returns void
    language plpgsql
    set search_path = pg_catalog
as $$
declare
    v_now timestamptz := backstitch.clock();
    v_cause jsonb := jsonb_build_object('cause', 'cancelled') || p_cancel;
begin
    perform backstitch.write_decision(p_workflow, 'unwinding', v_cause);
    perform backstitch.write_decision(p_workflow, 'compensated', null);
    update backstitch.workflow w
    set status = 'compensated',
        cause = v_cause,
        error = jsonb_build_object(
            'failure',
            jsonb_build_object(
                'code', 'cancelled',
                'message', format('cancelled by %s: %s', p_cancel ->> 'by', p_cancel ->> 'why')
            )
        ),
        report = jsonb_build_object('cause', v_cause, 'steps', '[]'::jsonb),
        finished_at = v_now
    where w.workflow_id = p_workflow;
    delete from backstitch.ready r where r.workflow_id = p_workflow;
    update backstitch.alert a set resolved_at = v_now where a.workflow_id = p_workflow and a.resolved_at is null;
end
$$;

comment on function backstitch.end_unbegun(uuid, jsonb) is
    'A part of cancel: ends a workflow that has begun no step. The caller holds the lock of the row in ready.';

revoke all on function backstitch.end_unbegun(uuid, jsonb) from public;
