-- Steps are defined by the rules: workflows wait for times, ask programs of others, and can be paused.
alter table workflows
    drop constraint workflows_status_check,
    add column paused     jsonb,
    add column stuck      boolean not null default false,
    -- when it begins to count as stuck, by the business clock
    add column stuck_at   timestamptz,
    -- when the time is over that it waits for, by the business clock
    add column wait_until timestamptz,
    -- whether its next step asks a program of somebody else, which may take as long as it likes
    add column asks       boolean not null default false;
alter table workflows add constraint workflows_status_check check (status in ('running', 'waiting', 'paused', 'completed', 'failed'));
drop index workflows_due;
create index workflows_due on workflows (asks, due_at) where due_at is not null;
create index workflows_waiting on workflows (wait_until) where wait_until is not null;
create index workflows_to_be_stuck on workflows (stuck_at) where stuck_at is not null;
create index workflows_stuck on workflows (created_at desc, id desc) where stuck;
