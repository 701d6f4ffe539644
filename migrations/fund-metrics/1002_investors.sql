-- The figures of an investor are summed when they are asked for: an investor has few lines, and keeping the sums would
-- cost every payment two more rows.
delete from totals where holder = 'investor';
delete from due_totals where holder = 'investor';
create index lines_of_investor on lines (investor_id);
create index commitments_of_investor on commitments (investor_id);
alter table lines set (autovacuum_vacuum_scale_factor = 0.05);
alter table totals set (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
alter table due_totals set (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
