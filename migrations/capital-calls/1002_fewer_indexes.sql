-- What a payment costs is mostly its index entries. Payments of a line with a reference are few among the payments
-- of the line, and are asked for only when cash may be above what is outstanding: what is entered twice is refused there.
drop index payment_once;
-- The line is locked by whoever adds a payment, so it is there; nobody can delete lines.
alter table payments drop constraint payments_line_id_fkey;
alter table payments set (autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_freeze_min_age = 0);
alter table call_lines set (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);
alter table capital_calls set (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);
do $$
begin
    execute format('revoke delete, truncate on call_lines from %I', current_schema());
end $$;
