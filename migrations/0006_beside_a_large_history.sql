-- Nothing here is worth compiling. Beside a million finished workflows the planner thinks otherwise of the claim, whose
-- estimates are for tables of that size: it then spent 180 ms in the compiler to run for one. Compiled plans are not kept.

alter function backstitch.append(integer, backstitch.journal_record[]) set jit = off;
alter function backstitch.append(
    integer, uuid[], integer[], integer[], text[], integer[], text[], integer[], text[], text[], text[], integer[], text[],
    integer[], text[], integer[], text[], text[], text[]
) set jit = off;
alter function backstitch.follow(backstitch.journal_record[], uuid[], uuid[], uuid[], timestamptz) set jit = off;
alter function backstitch.claim(integer, text[], text[], integer, integer) set jit = off;
alter function backstitch.claim(integer, text[], text[], integer, boolean) set jit = off;
alter function backstitch.park(integer, uuid, integer, interval, jsonb) set jit = off;
alter function backstitch.enter_slot(integer, uuid, integer, integer, integer) set jit = off;
alter function backstitch.bury(integer, bigint, boolean) set jit = off;
alter function backstitch.enqueue_many(text, jsonb[], text[], text, integer, timestamptz, timestamptz, integer) set jit = off;
alter function backstitch.remove_finished(uuid, interval, integer, integer) set jit = off;

-- Small, and every claim walks over what it has left behind since the last vacuum: that one is not to be slowed down.
alter table backstitch.ready set (autovacuum_vacuum_cost_delay = 0);

-- What a vacuum was feared for in 0004 was the compiler's doing: let it come with the inserts, as is usual.
alter table backstitch.journal reset (autovacuum_vacuum_insert_threshold);
