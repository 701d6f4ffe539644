-- What an investor is, and the size of a fund, for limits of what those of a type promise. The copies of funds are asked for again: the
-- next comparison with their owner finds them older.
alter table investors add column investor_type text;
alter table funds add column size numeric;
update funds set epoch = 0, version = 0;
-- How much notice a call gives, in business days.
alter table capital_calls add column notice_days integer;
