-- Who may speak HTTP to a daemon: bearer tokens, of which only the hash is kept.

create table backstitch.token (
    token_id uuid primary key default backstitch.uuid_v7(),
    name text not null,
    hash bytea not null,
    role text not null,
    kinds text[],
    created_at timestamptz not null default backstitch.clock(),
    revoked_at timestamptz,

    constraint name_has_1_to_100_bytes check (octet_length(name) between 1 and 100),
    constraint hash_is_a_sha256 check (octet_length(hash) = 32),
    constraint role_is_known check (role in ('read', 'produce', 'operate')),
    constraint scope_has_1_to_16_kinds check (
        kinds is null
        or (array_ndims(kinds) = 1 and cardinality(kinds) between 1 and 16 and array_position(kinds, null) is null)
    ),
    constraint no_two_tokens_are_the_same unique (hash)
);

comment on table backstitch.token is 'Bearer tokens of the HTTP API. A token itself is shown once, when it is made, and is nowhere.';
comment on column backstitch.token.name is 'For people: who has it.';
comment on column backstitch.token.hash is 'SHA-256 of the token. It is 256 random bits, so no slow hash is needed against guessing.';
comment on column backstitch.token.role is 'read: looks. produce: asks for workflows and waits for them. operate: looks and decides.';
comment on column backstitch.token.kinds is 'Only workflows of these kinds exist for it. Null: of every kind.';
comment on column backstitch.token.revoked_at is 'From then on it opens nothing. Null: it does.';

create function backstitch.create_token(p_name text, p_hash bytea, p_role text, p_kinds text[])
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
    if (p_role in ('read', 'produce', 'operate')) is not true then
        raise exception 'token %: there are the roles read, produce and operate', p_name using errcode = 'BSI01';
    end if;
    if p_kinds is not null and cardinality(p_kinds) not between 1 and 16 then
        raise exception 'token %: give 1 to 16 kinds, or none for all of them', p_name using errcode = 'BSI01';
    end if;
    insert into backstitch.token (name, hash, role, kinds)
    values (p_name, p_hash, p_role, p_kinds)
    returning token_id into v_token;
    return v_token;
end
$$;

comment on function backstitch.create_token(text, bytea, text, text[]) is
    'Lets whoever has the token of this hash in, as this role, to workflows of these kinds; null: of every kind.';

create function backstitch.revoke_token(p_token uuid)
    returns boolean
    language plpgsql
    set search_path = pg_catalog
as $$
begin
    update backstitch.token t
    set revoked_at = coalesce(t.revoked_at, backstitch.clock())
    where t.token_id = p_token;
    return found;
end
$$;

comment on function backstitch.revoke_token(uuid) is
    'Lets a token open nothing any more, from the next request on. False: there is none of this id.';

create function backstitch.find_token(p_hash bytea)
    returns table (token_id uuid, name text, role text, kinds text[], created_at timestamptz, revoked_at timestamptz)
    language sql stable
    set search_path = pg_catalog
    rows 1
begin atomic
    select t.token_id, t.name, t.role, t.kinds, t.created_at, t.revoked_at
    from backstitch.token t
    where t.hash = p_hash
        and t.revoked_at is null;
end;

comment on function backstitch.find_token(bytea) is 'The token of this hash, unless it was revoked.';

create view backstitch.tokens as
select t.token_id, t.name, t.role, t.kinds, t.created_at, t.revoked_at
from backstitch.token t;

comment on view backstitch.tokens is 'Every token there is or was, without its hash.';

revoke all on backstitch.token, backstitch.tokens from public;
revoke all on function backstitch.create_token(text, bytea, text, text[]), backstitch.revoke_token(uuid),
    backstitch.find_token(bytea)
    from public;
