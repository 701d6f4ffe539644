-- A recorder: the place in each owner's log up to which everything is recorded.
create table log_positions (
    owner    text primary key,
    position bigint not null
);

-- Messages of the stream when it was looked at: fewer mean that the broker forgot some.
alter table relay_state add column messages bigint not null default 0;

-- Set while the states of a new epoch are written: the last aggregate that is.
alter table service_state add column snapshot_after uuid;
