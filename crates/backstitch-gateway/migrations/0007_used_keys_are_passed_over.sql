-- A key that somebody used for something else must not lock an organisation out: it is passed over, as one whose workflow
-- has ended.

create or replace function gateway.enqueue_generation(p_organization_id uuid, p_kind text, p_deadline_at timestamptz)
    returns uuid
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_generation integer;
    v_workflow_id uuid;
begin
    loop
        -- Outside the block below, which takes back what it did: the next round must count on.
        update gateway.organization o
        set generation = o.generation + 1
        where o.organization_id = p_organization_id
        returning o.generation into v_generation;
        begin
            v_workflow_id := backstitch.enqueue(
                p_kind,
                jsonb_build_object('organization', p_organization_id),
                p_key => p_organization_id || '/' || v_generation,
                p_deadline_at => p_deadline_at
            );
        exception when sqlstate 'BSK01' then
            -- The same key with another input.
            continue;
        end;
        exit when gateway.workflow_is_live(v_workflow_id);
    end loop;
    return v_workflow_id;
end
$$;
