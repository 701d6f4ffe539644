-- An investor who promises more at a later closing gets another line in each call: what it owed before keeps its due date.
alter table call_lines add column closing_id uuid references closings (id);
alter table call_lines drop constraint line_once;
alter table call_lines add constraint line_once unique nulls not distinct (call_id, investor_id, closing_id);
