-- The event log by month of writing, so that old months can be put aside; ids by blocks of 4,096, so that all
-- events of a transaction wait for the broker as one row; summaries, which are published once a second at most.

alter table event_log rename to event_log_before;
alter table event_log_before drop constraint event_log_version, drop constraint event_log_pkey;

create table event_log (
    -- (block << 12) + place in the block
    log_id         bigint      not null,
    -- by the server's clock, which nobody sets: business time stands in `at`
    logged_at      timestamptz not null default clock_timestamp(),
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
    -- JSON as text: the bytes that are published are the bytes that were written, and nobody checks them again
    body           text        not null,
    primary key (log_id, logged_at)
) partition by range (logged_at);

create sequence event_log_blocks;

-- Events are never edited or deleted, by way of no partition: the service's role may add and read them, nothing else.
do $$
begin
    execute format('revoke update, delete, truncate on event_log from %I', current_schema());
end $$;

-- Makes the partitions of this month and the two after it. The service calls it at start and daily; it
-- runs as the owner, because the service's role makes no tables.
create function make_event_log_partitions() returns void language plpgsql security definer set search_path from current as $$
declare
    month date;
    name  text;
begin
    -- replicas that start together
    perform pg_advisory_xact_lock(hashtextextended(current_schema() || ' partitions', 0));
    for ahead in 0..2 loop
        month := date_trunc('month', now() at time zone 'utc')::date + make_interval(months => ahead);
        name := to_char(month, '"event_log_"yyyy_mm');
        continue when to_regclass(name) is not null;
        execute format('create table %I partition of event_log for values from (%L) to (%L)',
                       name, month || ' 00:00+00', (month + interval '1 month')::date || ' 00:00+00');
        -- one version once: the aggregate's row is locked by whoever raises it, so this only finds a mistake
        execute format('create unique index on %I (aggregate_id, epoch, version)', name);
        execute format('alter table %I set (autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_freeze_min_age = 0)', name);
        execute format('revoke update, delete, truncate on %I from %I', name, current_schema());
    end loop;
end $$;
select make_event_log_partitions();

insert into event_log (log_id, event_id, stream, subject, aggregate, aggregate_id, epoch, version,
                       at, actor, correlation_id, causation_id, traceparent, body)
select log_id, event_id, stream, subject, aggregate, aggregate_id, epoch, version,
       at, actor, correlation_id, causation_id, traceparent, body::text
from event_log_before;
select setval('event_log_blocks', (coalesce(max(log_id), 0) >> 12) + 1) from event_log_before;

-- The events of one stream in a range of the log wait here until the broker has acknowledged them.
alter table outbox_pending rename to outbox_before;
create table outbox_pending (
    first_log_id bigint,
    last_log_id  bigint      not null check (last_log_id >= first_log_id),
    stream       text        not null,
    events       integer     not null check (events > 0),
    attempts     integer     not null default 0,
    next_attempt timestamptz not null default clock_timestamp(),
    primary key (first_log_id, stream)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
insert into outbox_pending (first_log_id, last_log_id, stream, events, attempts, next_attempt)
select log_id, log_id, stream, 1, attempts, next_attempt from outbox_before join event_log_before using (log_id);
drop table outbox_before;
drop table event_log_before;

-- Aggregates whose figures changed and whose summary is due.
create table summaries_due (
    aggregate    text,
    aggregate_id uuid,
    primary key (aggregate, aggregate_id)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- An answer is looked up by an id made of subject, actor and key: one narrow index.
alter table idempotency drop constraint idempotency_pkey;
alter table idempotency add column id uuid;
update idempotency
set id = encode(substring(sha256(convert_to(subject || chr(10) || actor || chr(10) || key, 'UTF8')) for 16), 'hex')::uuid;
alter table idempotency alter column id set not null, add primary key (id), alter column reply type text using reply::text;
