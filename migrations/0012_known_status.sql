-- What 0009 left: a look through all workflows, during which everybody else works on.
alter table backstitch.workflow validate constraint status_is_known;
