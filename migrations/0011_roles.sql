-- Who may do what: granted to roles that the cluster's owner makes, for a role belongs to a cluster, not to a database.
--
-- Who may enqueue or decide may do nothing else: those functions act with the rights of the schema's owner, and look names up
-- where nobody else can put any. A worker writes the tables itself, behind its fence.

alter function backstitch.enqueue(text, jsonb, text, text, integer, timestamptz, timestamptz, integer)
    security definer set search_path = pg_catalog, pg_temp;
alter function backstitch.enqueue_many(text, jsonb[], text[], text, integer, timestamptz, timestamptz, integer)
    security definer set search_path = pg_catalog, pg_temp;
alter function backstitch.cancel(uuid, text, text) security definer set search_path = pg_catalog, pg_temp;
alter function backstitch.retry(uuid, text, text) security definer set search_path = pg_catalog, pg_temp;
alter function backstitch.skip_step(uuid, integer, text, text, uuid)
    security definer set search_path = pg_catalog, pg_temp;
alter function backstitch.resolve(uuid, integer, boolean, text, text, jsonb, uuid)
    security definer set search_path = pg_catalog, pg_temp;
alter function backstitch.abandon(uuid, text, text, uuid) security definer set search_path = pg_catalog, pg_temp;
alter function backstitch.pause(uuid, text, text, uuid) security definer set search_path = pg_catalog, pg_temp;
alter function backstitch.resume(uuid, text, text, uuid) security definer set search_path = pg_catalog, pg_temp;
alter function backstitch.pause_kind(text, text, text) security definer set search_path = pg_catalog, pg_temp;
alter function backstitch.resume_kind(text, text, text) security definer set search_path = pg_catalog, pg_temp;

create function backstitch.grant_to(p_grantee text, p_role text)
    returns void
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_enqueue text[] := array[
        'enqueue(text, jsonb, text, text, integer, timestamptz, timestamptz, integer)',
        'enqueue_many(text, jsonb[], text[], text, integer, timestamptz, timestamptz, integer)'
    ];
    v_wait text[] := array['settled(uuid[])', 'expect_announcements()'];
    v_decide text[] := array[
        'cancel(uuid, text, text)',
        'retry(uuid, text, text)',
        'skip_step(uuid, integer, text, text, uuid)',
        'resolve(uuid, integer, boolean, text, text, jsonb, uuid)',
        'abandon(uuid, text, text, uuid)',
        'pause(uuid, text, text, uuid)',
        'resume(uuid, text, text, uuid)',
        'pause_kind(text, text, text)',
        'resume_kind(text, text, text)'
    ];
    v_function text;
    v_relation text;
begin
    if p_role is null or p_role not in ('producer', 'reader', 'operator', 'worker') then
        raise exception '% is no role; there are producer, reader, operator and worker', coalesce(quote_literal(p_role), 'null')
            using errcode = 'BSI01';
    end if;
    -- And so that nothing goes to PUBLIC, whatever it is called.
    if not exists (select from pg_roles r where r.rolname = p_grantee) then
        raise exception 'there is no role % in this cluster: create it first', coalesce(quote_ident(p_grantee), 'null')
            using errcode = 'BSI01';
    end if;
    -- It is this from now on, whatever it was.
    execute format('revoke all on schema backstitch from %I', p_grantee);
    execute format('revoke all on all tables in schema backstitch from %I', p_grantee);
    execute format('revoke all on all sequences in schema backstitch from %I', p_grantee);
    execute format('revoke all on all functions in schema backstitch from %I', p_grantee);
    execute format('revoke all on type backstitch.journal_record from %I', p_grantee);
    execute format('grant usage on schema backstitch to %I', p_grantee);
    if p_role = 'worker' then
        execute format('grant select, insert, update, delete on all tables in schema backstitch to %I', p_grantee);
        execute format('grant usage on all sequences in schema backstitch to %I', p_grantee);
        execute format('grant execute on all functions in schema backstitch to %I', p_grantee);
        execute format('grant usage on type backstitch.journal_record to %I', p_grantee);
        -- What the schema looks like is its owner's to change; which version it has, anyone's to see who works with it.
        execute format('revoke insert, update, delete on backstitch._migrations from %I', p_grantee);
        execute format('revoke execute on function backstitch.grant_to(text, text) from %I', p_grantee);
        -- Nor does it let anybody in.
        execute format('revoke insert, update, delete on backstitch.token from %I', p_grantee);
        execute format('revoke execute on function backstitch.create_token(text, bytea, text, text[]) from %I', p_grantee);
        execute format('revoke execute on function backstitch.revoke_token(uuid) from %I', p_grantee);
        return;
    end if;
    if p_role = 'producer' then
        foreach v_function in array v_enqueue loop
            execute format('grant execute on function backstitch.%s to %I', v_function, p_grantee);
        end loop;
        return;
    end if;
    -- What the views show may also be looked for below them. Nobody sees what lets callers in.
    for v_relation in
        select c.relname
        from pg_class c
        where c.relnamespace = 'backstitch'::regnamespace
            and (c.relkind = 'v' or c.relname in ('workflow', 'ready', 'journal', 'key', 'incarnation', 'alert', '_migrations'))
    loop
        execute format('grant select on backstitch.%I to %I', v_relation, p_grantee);
    end loop;
    foreach v_function in array case p_role when 'operator' then v_wait || v_decide else v_wait end loop
        execute format('grant execute on function backstitch.%s to %I', v_function, p_grantee);
    end loop;
end
$$;

comment on function backstitch.grant_to(text, text) is
    'Lets a role of the cluster be a producer (enqueue and nothing else), a reader, an operator (reads, and decides) or a worker. For the owner of the schema, again after each migration.';

revoke all on function backstitch.grant_to(text, text) from public;
