-- Deals as upstream published them, kept newest by (epoch, version).
create table deals (
    id         uuid primary key,
    epoch      integer     not null,
    version    bigint      not null,
    created_at timestamptz not null,
    name       text        not null,
    stage      text        not null,
    company    text,
    sector     text,
    currency   text,
    size       numeric
);
create index deals_by_stage on deals (stage, id);

create table funds (
    id           uuid primary key,
    version      bigint      not null,
    created_at   timestamptz not null,
    name         text        not null,
    fund_type    text        not null,
    currency     text        not null,
    vintage_year integer     not null,
    size         numeric     not null check (size > 0),
    calendar     text        not null,
    timezone     text        not null,
    allocated    numeric     not null default 0,
    constraint fund_name unique (name),
    constraint fund_capacity check (allocated >= 0 and allocated <= size)
) with (fillfactor = 80);

create table allocations (
    id            uuid primary key,
    version       bigint      not null,
    created_at    timestamptz not null,
    deal_id       uuid        not null references deals (id),
    fund_id       uuid        not null references funds (id),
    fund_type     text        not null,
    currency      text        not null,
    amount        numeric     not null check (amount > 0),
    security_type text        not null,
    requested_by  text        not null,
    decision      text        not null check (decision in ('pending_approval', 'active', 'denied')),
    called        numeric     not null default 0 check (called >= 0),
    paid          numeric     not null default 0 check (paid >= 0)
) with (fillfactor = 80);
create index allocations_of_fund on allocations (fund_id, id desc);
create index allocations_of_deal on allocations (deal_id, id desc);
-- a fund has one allocation to a deal that is pending or in force
create unique index allocation_once on allocations (fund_id, deal_id) where decision <> 'denied';

-- The part of each call line that is for an allocation, kept newest by (epoch, version); the
-- previous values give the difference for the allocation's totals.
create table line_shares (
    line_id         uuid,
    allocation_id   uuid,
    epoch           integer not null,
    version         bigint  not null,
    called          numeric not null,
    paid            numeric not null,
    previous_called numeric not null default 0,
    previous_paid   numeric not null default 0,
    primary key (line_id, allocation_id)
) with (fillfactor = 80);
