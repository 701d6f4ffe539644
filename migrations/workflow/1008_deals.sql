-- Workflows wait for the deal system: it has moved a deal, or it is asked again.
create table deals_heard (
    id      uuid primary key,
    epoch   integer not null,
    version bigint  not null,
    stage   text    not null,
    replies jsonb   not null default '[]'
);
alter table workflows add column awaits_deal uuid;
create index workflows_awaiting_deals on workflows (awaits_deal) where awaits_deal is not null;
-- Allocations are taken back by workflows of their own.
alter table workflows
    drop constraint workflows_subject_kind_check,
    add constraint workflows_subject_kind_check check (subject_kind in ('allocation', 'capital_call', 'refund', 'withdrawal'));
-- The newest version of each allocation that was heard of: one that was lost on the way is asked for again.
create table allocations_heard (
    id      uuid primary key,
    epoch   integer not null,
    version bigint  not null
);
