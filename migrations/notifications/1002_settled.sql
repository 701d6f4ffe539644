-- Whether the line's reminders were last set for a line that is paid: they change only when that does.
alter table lines add column settled boolean not null default false;
update lines set settled = outstanding = 0;
-- Rows that every payment touches are cleaned early, so that they stay in few pages.
alter table lines set (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);
