-- Rows that every payment touches are cleaned early, so that they stay in few pages.
alter table line_shares set (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);
alter table allocations set (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);
