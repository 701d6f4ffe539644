-- Whether the line's reminders were last set for a line that is paid: they change only when that does.
alter table lines add column settled boolean not null default false;
update lines set settled = outstanding = 0;
