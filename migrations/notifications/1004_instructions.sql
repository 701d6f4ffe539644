-- The bank details that the notices of a line go by: masked, with their hash.
alter table lines add column instructions jsonb;
