-- A payment writes no schedules: what comes due while a line is paid is silenced then, and wanted again when the line is re-opened.
alter table lines rename column settled to silenced;
update lines set silenced = exists (select from schedules where line_id = lines.id and not wanted);
alter table schedules alter column wanted set default true;
