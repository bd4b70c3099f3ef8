-- In which order attempts began and ended the journal knows by itself; a clock that jumped back does not.

create or replace view backstitch.attempts as
select j.workflow_id,
    e.position,
    max(j.intent_step) filter (where e.begins) as step,
    e.direction,
    e.attempt,
    j.workflow_id || '/' || e.position || '/' || e.direction as key,
    max(j.epoch) filter (where e.begins) as epoch,
    max(j.incarnation) filter (where e.begins) as incarnation,
    max(j.written_at) filter (where e.begins) as began_at,
    max(j.written_at) filter (where e.ends) as ended_at,
    max(j.outcome) filter (where e.ends) as outcome,
    (array_agg(j.outcome_value) filter (where e.ends))[1] as value,
    max(j.intent_version) filter (where e.begins) as version,
    max(j.intent_backward) filter (where e.begins) as backward,
    (array_agg(j.intent_input) filter (where e.begins))[1] as input,
    max(j.seq) filter (where e.begins) as began_seq,
    max(j.seq) filter (where e.ends) as ended_seq
from backstitch.journal j
    cross join lateral (
        values (j.intent_position, j.intent_direction, j.intent_attempt, true, false),
            (j.outcome_position, j.outcome_direction, j.outcome_attempt, false, true)
    ) e (position, direction, attempt, begins, ends)
where e.position is not null
group by j.workflow_id, e.position, e.direction, e.attempt
having bool_or(e.begins);

comment on column backstitch.attempts.began_seq is 'The row of the journal with its intent. What began later has a larger one.';
comment on column backstitch.attempts.ended_seq is
    'The row of the journal with its outcome: its own, or the one in which the next attempt begins. Null: under way, or in doubt.';
