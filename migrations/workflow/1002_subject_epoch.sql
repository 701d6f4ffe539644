-- The epoch of the subject's owner when the workflow last heard of it: a subject that is pending in a newer one was decided in a time
-- that its owner has forgotten, and is decided again.
alter table workflows add column subject_epoch integer not null default 1;
