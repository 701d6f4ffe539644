-- A dead letter can be handled again, or discarded with a reason.
alter table dead_letters drop constraint dead_letters_status_check;
alter table dead_letters
    add constraint dead_letters_status_check check (status in ('parked', 'released', 'redriven', 'discarded')),
    -- where the message stood in the broker
    add column place      text not null default '',
    add column decided_by text,
    add column note       text;
create index dead_letters_released on dead_letters (created_at) where status = 'released';
