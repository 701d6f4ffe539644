-- What every service's schema has; run before the service's own migrations.
-- The role that runs migrations owns the tables; the service's role uses them (default privileges).

create table service_state (
    only_row boolean primary key default true check (only_row),
    -- raised when the database is set back to an older copy
    epoch    integer not null default 1 check (epoch > 0)
);
insert into service_state default values;

create table event_log (
    log_id         bigint generated always as identity primary key,
    event_id       uuid        not null,
    stream         text        not null,
    subject        text        not null,
    aggregate      text        not null,
    aggregate_id   uuid        not null,
    epoch          integer     not null,
    version        bigint      not null check (version > 0),
    at             timestamptz not null,
    actor          text        not null,
    correlation_id text        not null,
    causation_id   text        not null,
    traceparent    text,
    -- json, not jsonb: the bytes that are published are the bytes that were written
    body           json        not null,
    constraint event_log_version unique (aggregate_id, epoch, version)
);

-- An event waits here until the broker has acknowledged it.
create table outbox_pending (
    log_id       bigint primary key,
    attempts     integer     not null default 0,
    next_attempt timestamptz not null default clock_timestamp()
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);

create table relay_state (
    stream     text primary key,
    created_at text   not null,
    last_seq   bigint not null
);

-- Answers that were given. A key belongs to who sent it and to the command that it was sent with, so
-- that nobody can use up another's key.
create table idempotency (
    subject      text        not null,
    actor        text        not null,
    key          text        not null,
    request_hash bytea       not null,
    reply        json        not null,
    created_at   timestamptz not null,
    primary key (subject, actor, key)
);

create table dead_letters (
    id         uuid primary key,
    version    bigint      not null default 1,
    created_at timestamptz not null,
    reaction   text        not null,
    subject    text        not null,
    headers    json        not null,
    payload    bytea       not null,
    reason     text        not null,
    status     text        not null default 'parked' check (status = 'parked')
);
create index dead_letters_newest on dead_letters (created_at desc, id desc);

-- Events are never edited or deleted: the service's role may add and read them, nothing else.
do $$
begin
    execute format('revoke update, delete, truncate on event_log from %I', current_schema());
end $$;
