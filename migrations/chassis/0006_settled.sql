-- Everything of the log below this position had been acknowledged when the stream was last found whole. After a broken
-- connection what is above it is published again: the broker may have come back without it.
alter table relay_state add column settled bigint not null default 0;
update relay_state set settled = coalesce((select max(log_id) from event_log), 0);
