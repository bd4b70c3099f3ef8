-- A workflow quarantines the gateway that it has, and no gateway that somebody else has since.

create function gateway.proc_gateway_quarantine_held(p_gateway_id bigint, p_workflow_id uuid, p_reason text)
    returns boolean
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    -- The lock that whoever releases it takes first.
    perform from gateway.gateway where gateway_id = p_gateway_id for update;
    perform
    from gateway.allocation
    where gateway_id = p_gateway_id
        and status <> 'ended'
        and coalesce(stopping_workflow_id, workflow_id) = p_workflow_id;
    if not found then
        return false;
    end if;
    perform gateway.proc_gateway_quarantine(p_gateway_id, p_reason);
    return true;
end
$$;

comment on function gateway.proc_gateway_quarantine_held(bigint, uuid, text) is
    'Quarantines the gateway if its live allocation names this workflow. False: it does not, and nothing was changed.';

revoke execute on function gateway.proc_gateway_quarantine_held(bigint, uuid, text) from public;
