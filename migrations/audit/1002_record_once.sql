-- One index says both that a message is recorded once and where the records of an aggregate are. Of ours, the id is
-- made of aggregate, epoch and version; of what comes from outside, of its place in the broker.
alter table records drop constraint record_once;
drop index records_of_aggregate;
alter table records add constraint record_once unique (aggregate_id, version, epoch, source_id);
alter table records set (autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_freeze_min_age = 0);
