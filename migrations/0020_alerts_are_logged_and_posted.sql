-- Logged is one thing, posted another: the log of a daemon without a webhook takes no alert from a webhook that another has.

alter table backstitch.alert add column logged_at timestamptz;

comment on column backstitch.alert.logged_at is 'When a daemon wrote it into its log. Null: none did yet.';
comment on column backstitch.alert.delivered_at is 'When a webhook took it; a daemon of a version before 0020 without a webhook has set it, too. Null: none did yet.';

-- What a daemon of the version before told, it had logged first.
update backstitch.alert
set logged_at = delivered_at
where delivered_at is not null
    and resolved_at is null;

-- Nobody is told of what needs nobody any more. The index alert_to_deliver is for daemons of the version before.
create index alert_to_log on backstitch.alert (alert_id) where logged_at is null and resolved_at is null;
create index alert_to_post on backstitch.alert (alert_id) where delivered_at is null and resolved_at is null;
