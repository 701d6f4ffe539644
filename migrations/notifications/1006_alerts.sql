-- What people of the firm should look at: approvals that wait, workflows that are stuck, deals that will not happen.
create table heard (
    id      uuid primary key,
    kind    text    not null check (kind in ('approval', 'workflow', 'allocation')),
    epoch   integer not null,
    version bigint  not null
);
create table funds (
    id        uuid primary key,
    epoch     integer not null,
    version   bigint  not null,
    fund_type text    not null
);
create table alerts (
    id                uuid primary key,
    kind              text        not null,
    fund_id           uuid        not null,
    subject_id        uuid        not null,
    alert             jsonb       not null,
    -- by the system's own time
    noted_at          timestamptz not null,
    -- by the business clock
    told_at           timestamptz,
    told_with_another boolean     not null default false
);
create index alerts_waiting on alerts (fund_id, kind, noted_at, id) where told_at is null;
create index alerts_told_of on alerts (fund_id, kind, told_at) where told_at is not null and not told_with_another;
create index alerts_of_subject on alerts (subject_id) where told_at is null;
create index alerts_told on alerts (told_at desc, id desc) where told_at is not null;
