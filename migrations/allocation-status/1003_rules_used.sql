-- The rules by which an allocation was accepted.
alter table allocations add column rules jsonb not null default '{"content_hash": "", "layers": []}';
