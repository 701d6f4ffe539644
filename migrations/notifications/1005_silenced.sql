-- A payment writes no schedules: what comes due while a line is paid is silenced then, and wanted again when the line is re-opened.
-- `settled` stays for replicas of the version before, and is not read any more.
alter table lines add column silenced boolean not null default false;
update lines set silenced = true where exists (select from schedules where line_id = lines.id and not wanted);
alter table schedules alter column wanted set default true;
