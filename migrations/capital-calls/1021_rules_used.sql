-- The rules by which a call was submitted, and its lines were made.
alter table capital_calls add column rules jsonb not null default '{"content_hash": "", "layers": []}';
