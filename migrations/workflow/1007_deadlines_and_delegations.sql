-- Approvals are reminded of, escalated and expire, by the business clock.
alter table approvals
    drop constraint approvals_status_check,
    add column asked_at     timestamptz,
    add column reminded     boolean not null default false,
    add column escalates_to jsonb   not null default '[]',
    add column expired      boolean not null default false,
    -- when something happens by itself next
    add column deadline_at  timestamptz;
update approvals set asked_at = created_at;
alter table approvals
    -- the default is for replicas of the version before, which do not write it
    alter column asked_at set default now(),
    alter column asked_at set not null,
    add constraint approvals_status_check check (status in ('pending', 'approved', 'denied', 'voided', 'expired'));
create index approvals_overdue on approvals (deadline_at) where deadline_at is not null;
-- Votes that somebody casts for somebody else in a period.
create table delegations (
    id         uuid primary key,
    version    bigint      not null,
    created_at timestamptz not null,
    granted_by text        not null,
    granted_to text        not null,
    roles      text[]      not null,
    funds      uuid[],
    starts_at  timestamptz not null,
    ends_at    timestamptz not null check (ends_at > starts_at),
    reason     text        not null,
    revoked_at timestamptz,
    constraint delegation_to_another check (granted_to <> granted_by)
);
create index delegations_between on delegations (granted_to, granted_by, ends_at);
create index delegations_of_grantor on delegations (granted_by, id desc);
do $$
begin
    execute format('revoke delete, truncate on delegations from %I', current_schema());
end $$;
