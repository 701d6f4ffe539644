-- Calls that pay for a line in default; entries that wait for the rest of their file.
create index capital_calls_that_cover on capital_calls (covers_line_id) where covers_line_id is not null;
create index staged_entries_by_age on staged_entries (staged_at);
