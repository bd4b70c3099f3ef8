-- A transactional step that met a session which can only read, as one of a primary that became a standby since, found its place free,
-- ran its code, and had one attempt less. It has none: its worker tries another session.

-- As since 0002, but for that.
create or replace function backstitch.enter_slot(
    p_incarnation integer,
    p_workflow uuid,
    p_position integer,
    p_seq integer,
    p_timeout_ms integer
)
    returns table (
        epoch integer,
        incarnation integer,
        outcome text,
        outcome_position integer,
        outcome_direction text,
        outcome_attempt integer,
        outcome_value text
    )
    language plpgsql
    set search_path = pg_catalog
    set enable_seqscan = off
    set plan_cache_mode = force_generic_plan
    set jit = off
as $$
begin
    perform backstitch.assert_read_committed();
    if current_setting('transaction_read_only')::boolean then
        raise exception 'workflow %: its step is not begun in a session that can only read', p_workflow
            using errcode = 'read_only_sql_transaction';
    end if;
    -- A burial ends what carries this name; and a transaction that its client forgot ends by itself.
    perform set_config('application_name', 'backstitch incarnation ' || p_incarnation, true),
        set_config('statement_timeout', p_timeout_ms::text, true),
        set_config('idle_in_transaction_session_timeout', p_timeout_ms::text, true);
    perform pg_advisory_xact_lock(hashtextextended(p_workflow || '/' || p_position, 0));
    return query
        select j.epoch, j.incarnation, j.outcome, j.outcome_position, j.outcome_direction, j.outcome_attempt,
            j.outcome_value::text
        from backstitch.journal j
        where j.workflow_id = p_workflow
            and j.seq = p_seq;
end
$$;
