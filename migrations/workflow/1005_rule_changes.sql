-- Changes of rules on their way to be in force.
create table rule_changes (
    id          uuid primary key,
    version     bigint      not null,
    created_at  timestamptz not null,
    scope       text        not null,
    change      jsonb       not null,
    status      text        not null check (status in ('draft', 'validated', 'simulated', 'approved', 'active', 'denied', 'withdrawn')),
    -- when it shall be in force, once it is approved; when it was proposed, for as soon as it is
    active_from timestamptz not null
);
create index rule_changes_approved on rule_changes (active_from) where status = 'approved';
create index rule_changes_of_scope on rule_changes (scope, id desc);
do $$
begin
    execute format('revoke delete, truncate on rule_changes, rule_sets from %I', current_schema());
end $$;
alter table rule_sets add column rule_change_id uuid references rule_changes (id);
-- The rules that a workflow keeps to.
alter table workflows add column rules jsonb not null default '{"content_hash": "", "layers": []}';
-- What was asked for in a time is looked up when rules are simulated.
create index workflows_by_time on workflows (created_at, id);
create index workflows_of_type_by_time on workflows ((subject ->> 'fund_type'), created_at, id);
create index workflows_of_fund_by_time on workflows (fund_id, created_at, id);
-- How many allocations of its deal came before one.
create index workflows_of_deal on workflows ((subject ->> 'deal_id'), created_at, id) where subject_kind = 'allocation';
