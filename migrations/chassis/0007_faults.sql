-- Since when events wait for the broker, by the server's clock; and whether they had been there before: what is published once
-- more is no sign of too much work.
alter table outbox_pending
    add column since timestamptz not null default clock_timestamp(),
    add column again boolean     not null default false;

-- The subject of the event that was acknowledged last. Only its owner publishes there: a stream whose last message of the subject
-- stands before the sequence that was acknowledged is another one, however much others have published since.
alter table relay_state add column last_subject text,
-- The sequence of its first message: one that begins later was emptied. 0 where that is not known.
    add column first_seq bigint not null default 0;

-- A recorder's place in a log holds in the owner's epoch: an owner that was set back uses places of the log again.
alter table log_positions add column epoch integer not null default 0;

-- The newest epoch that a reader has met of each kind: an owner's new epoch has the state of every aggregate that there is, so what
-- comes from an older one may have been forgotten.
create table epochs_met (
    kind  text primary key,
    epoch integer not null
);

-- Attempts since it was released, counted before each: one that kills its process is parked again.
alter table dead_letters add column attempts integer not null default 0;
