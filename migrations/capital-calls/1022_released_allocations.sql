-- Allocations that are being taken back are not called for any more: as their owner says, or by a command that was quicker than its event.
alter table allocations
    add column withdrawing      boolean not null default false,
    add column released_version bigint;
