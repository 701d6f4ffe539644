-- Workflows wait for the deal system: it has moved a deal, or it is asked again.
create table deals_heard (
    id      uuid primary key,
    epoch   integer not null,
    version bigint  not null,
    stage   text    not null,
    reply   jsonb
);
alter table workflows add column awaits_deal uuid;
create index workflows_awaiting_deals on workflows (awaits_deal) where awaits_deal is not null;
-- the allocations of a deal that came before one, when changes of rules are simulated
create index workflows_of_deal on workflows ((subject ->> 'deal_id'), created_at) where subject_kind = 'allocation';
