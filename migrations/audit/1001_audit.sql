-- The record of everything: append-only, each record hashed over its predecessor.
create table records (
    n              bigint primary key check (n > 0),
    source_id      uuid        not null,
    subject        text        not null,
    aggregate      text        not null,
    aggregate_id   uuid        not null,
    epoch          integer     not null,
    version        bigint      not null,
    actor          text        not null,
    correlation_id text        not null,
    at             timestamptz not null,
    -- as it came; bytea, because what is recorded may be no text at all
    body           bytea       not null,
    hash           bytea       not null,
    constraint record_once unique (source_id)
);
create index records_of_aggregate on records (aggregate_id, n);
create index records_of_actor on records (actor, n);
create index records_of_kind on records (aggregate, n);

do $$
begin
    execute format('revoke update, delete, truncate on records from %I', current_schema());
end $$;
