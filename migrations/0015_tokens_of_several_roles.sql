-- A token has one role or several: who asks for workflows may be given to look at them too.
--
-- The version before knows one role of a token: it makes one of it, and finds it by find_token. To its servers a token of
-- several is one of its first: less than it is, and never more.

alter table backstitch.token add column roles text[];

update backstitch.token set roles = array[role];

alter table backstitch.token
    alter column roles set not null,
    add constraint roles_are_known check (
        array_ndims(roles) = 1 and cardinality(roles) between 1 and 3 and roles <@ array['read', 'produce', 'operate']
    ),
    add constraint role_is_the_first check (role = roles[1]);

comment on column backstitch.token.roles is
    'read: looks. produce: asks for workflows and waits for them. operate: looks and decides. It may what any of them may.';
comment on column backstitch.token.role is 'The first of its roles, for the version before.';

create function backstitch.create_token(p_name text, p_hash bytea, p_roles text[], p_kinds text[])
    returns uuid
    language plpgsql
    set search_path = pg_catalog
as $$
declare
    v_token uuid;
begin
    if coalesce(octet_length(p_name), 0) not between 1 and 100 then
        raise exception 'a token has a name of 1 to 100 bytes' using errcode = 'BSI01';
    end if;
    if (cardinality(p_roles) between 1 and 3 and p_roles <@ array['read', 'produce', 'operate']) is not true then
        raise exception 'token %: give it one or more of the roles read, produce and operate', p_name using errcode = 'BSI01';
    end if;
    if p_kinds is not null and cardinality(p_kinds) not between 1 and 16 then
        raise exception 'token %: give 1 to 16 kinds, or none for all of them', p_name using errcode = 'BSI01';
    end if;
    insert into backstitch.token (name, hash, role, roles, kinds)
    values (p_name, p_hash, p_roles[1], p_roles, p_kinds)
    returning token_id into v_token;
    return v_token;
end
$$;

comment on function backstitch.create_token(text, bytea, text[], text[]) is
    'Lets whoever has the token of this hash in, as each of these roles, to workflows of these kinds; null: of every kind.';

create or replace function backstitch.create_token(p_name text, p_hash bytea, p_role text, p_kinds text[])
    returns uuid
    language plpgsql
    set search_path = pg_catalog
as $$
begin
    return backstitch.create_token(p_name, p_hash, array[p_role], p_kinds);
end
$$;

comment on function backstitch.create_token(text, bytea, text, text[]) is
    'The same with one role: for the version before.';
comment on function backstitch.find_token(bytea) is
    'The token of this hash, unless it was revoked, with the first of its roles: for the version before.';

create function backstitch.token_of(p_hash bytea)
    returns table (
        token_id uuid,
        name text,
        roles text[],
        kinds text[],
        created_at timestamptz,
        revoked_at timestamptz
    )
    language sql stable
    set search_path = pg_catalog
    rows 1
begin atomic
    select t.token_id, t.name, t.roles, t.kinds, t.created_at, t.revoked_at
    from backstitch.token t
    where t.hash = p_hash
        and t.revoked_at is null;
end;

comment on function backstitch.token_of(bytea) is 'The token of this hash, unless it was revoked.';

create or replace view backstitch.tokens as
select t.token_id, t.name, t.role, t.kinds, t.created_at, t.revoked_at, t.roles
from backstitch.token t;

revoke all on function backstitch.create_token(text, bytea, text[], text[]), backstitch.token_of(bytea) from public;

-- As in 0011, and a worker may call the new function that makes tokens no more than the old one.
create or replace function backstitch.grant_to(p_grantee text, p_role text)
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
        execute format('revoke execute on function backstitch.create_token(text, bytea, text[], text[]) from %I', p_grantee);
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
