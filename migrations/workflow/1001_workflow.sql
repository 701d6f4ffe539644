create table workflows (
    id             uuid primary key,
    version        bigint      not null,
    created_at     timestamptz not null,
    subject_kind   text        not null check (subject_kind in ('allocation', 'capital_call')),
    subject_id     uuid        not null,
    fund_id        uuid        not null,
    requested_by   text        not null,
    correlation_id text        not null,
    -- what the steps need of the subject
    subject        jsonb       not null,
    steps          jsonb       not null,
    error          jsonb,
    status         text        not null check (status in ('running', 'waiting', 'completed', 'failed')),
    -- when the runner shall act; null when a person must, or nothing is left to do
    due_at         timestamptz,
    constraint workflow_once unique (subject_kind, subject_id)
) with (fillfactor = 80);
create index workflows_due on workflows (due_at) where due_at is not null;
create index workflows_of_fund on workflows (fund_id, id desc);
create index workflows_by_status on workflows (status, created_at desc);

create table approvals (
    id           uuid primary key,
    version      bigint      not null,
    created_at   timestamptz not null,
    workflow_id  uuid        not null references workflows (id),
    subject_kind text        not null,
    subject_id   uuid        not null,
    fund_id      uuid        not null,
    amount       numeric     not null check (amount > 0),
    currency     text        not null,
    content_hash text        not null,
    requested_by text        not null,
    tier         jsonb       not null,
    votes        jsonb       not null default '[]',
    status       text        not null check (status in ('pending', 'approved', 'denied')),
    constraint approval_once unique (workflow_id)
);
create index approvals_by_status on approvals (status, created_at, id);
create index approvals_of_subject on approvals (subject_id);

-- Every version of every layer, for ever.
create table rule_sets (
    scope        text        not null,
    version      bigint      not null,
    created_at   timestamptz not null,
    rules        jsonb       not null,
    changed_by   text        not null,
    content_hash text        not null,
    primary key (scope, version)
);
