-- What share of its fund an allocation took when it was proposed.
alter table allocations add column concentration jsonb;
