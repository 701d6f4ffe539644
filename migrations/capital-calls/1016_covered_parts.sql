-- What others have taken over of a line, and when: until then it bore default interest.
alter table call_lines add column covered jsonb not null default '[]';
