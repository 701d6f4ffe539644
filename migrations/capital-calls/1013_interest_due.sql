-- Default interest that is final since the principal was paid, and not paid itself: a failure is not cured before.
alter table call_lines add column interest_due numeric not null default 0 check (interest_due >= 0);
