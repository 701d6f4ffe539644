-- What a call has seen of its fund's commitments when it was issued: whoever enters something holds the fund's lock, so that the
-- numbers tell what came before, whatever the clocks of two replicas say.
alter table commitment_entries add column position bigint;
update commitment_entries set position = numbered.position
from (select id, row_number() over (order by at, id) as position from commitment_entries) as numbered where numbered.id = commitment_entries.id;
alter table commitment_entries alter column position set not null;
alter table commitment_entries alter column position add generated always as identity;
select setval(pg_get_serial_sequence('commitment_entries', 'position'), coalesce(max(position), 0) + 1, false) from commitment_entries;
create index commitment_entries_by_position on commitment_entries (fund_id, position);

alter table capital_calls add column entries_seen bigint;
update capital_calls as call set entries_seen = coalesce((
    select max(position) from commitment_entries as entry
    where entry.fund_id = call.fund_id and entry.at <= (select min(created_at) from call_lines where call_id = call.id)), 0)
where issued_on is not null;
