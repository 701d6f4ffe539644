-- What an allocation says of itself, of the shape that the rules have for its type of investment.
alter table allocations add column details jsonb;
