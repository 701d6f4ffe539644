-- Read models: what is needed of other services' aggregates, kept newest by (epoch, version), with
-- the previous values that give the difference for the totals.
create table funds (
    id       uuid primary key,
    epoch    integer not null,
    version  bigint  not null,
    name     text    not null,
    currency text    not null,
    timezone text    not null
);
create index funds_by_name on funds (name, id);

create table commitments (
    id              uuid primary key,
    epoch           integer not null,
    version         bigint  not null,
    fund_id         uuid    not null,
    investor_id     uuid    not null,
    currency        text    not null,
    amount          numeric not null,
    is_new          boolean not null default true,
    previous_amount numeric not null default 0
);

create table allocations (
    id              uuid primary key,
    epoch           integer not null,
    version         bigint  not null,
    fund_id         uuid    not null,
    currency        text    not null,
    amount          numeric not null,
    active          bigint  not null,
    previous_amount numeric not null default 0,
    previous_active bigint  not null default 0
);

create table lines (
    id                 uuid primary key,
    epoch              integer not null,
    version            bigint  not null,
    fund_id            uuid    not null,
    investor_id        uuid    not null,
    currency           text    not null,
    due_on             date    not null,
    called             numeric not null,
    paid               numeric not null,
    impact             numeric not null,
    unapplied          numeric not null,
    is_new             boolean not null default true,
    previous_due_on    date,
    previous_called    numeric not null default 0,
    previous_paid      numeric not null default 0,
    previous_impact    numeric not null default 0,
    previous_unapplied numeric not null default 0
) with (fillfactor = 70);

-- The totals of a fund, of an investor in one currency, or of everything in one currency.
create table totals (
    holder      text    not null check (holder in ('fund', 'investor', 'portfolio')),
    holder_id   uuid    not null,
    currency    text    not null,
    version     bigint  not null,
    committed   numeric not null,
    called      numeric not null,
    paid_in     numeric not null,
    impact      numeric not null,
    unapplied   numeric not null,
    allocated   numeric not null,
    commitments bigint  not null,
    lines       bigint  not null,
    lines_paid  bigint  not null,
    allocations bigint  not null,
    primary key (holder, holder_id, currency)
) with (fillfactor = 50);

-- The same, for the lines of each due date: what is overdue depends on the day that asks.
create table due_totals (
    holder     text    not null,
    holder_id  uuid    not null,
    currency   text    not null,
    due_on     date    not null,
    called     numeric not null,
    paid_in    numeric not null,
    lines_open bigint  not null,
    primary key (holder, holder_id, currency, due_on)
) with (fillfactor = 50);
