-- The fund's name stands on notices. Versions are forgotten, so that every fund is sent again with it.
alter table funds add column name text not null default '';
update funds set version = 0;
