-- Copies of what allocation-status owns, kept newest by (epoch, version).
create table funds (
    id        uuid primary key,
    epoch     integer not null,
    version   bigint  not null,
    fund_type text    not null,
    currency  text    not null,
    timezone  text    not null
);

create table allocations (
    id      uuid primary key,
    epoch   integer not null,
    version bigint  not null,
    fund_id uuid    not null,
    amount  numeric not null,
    active  boolean not null,
    -- called for it by issued calls; kept here, not copied
    called  numeric not null default 0 check (called >= 0)
);

create table investors (
    id         uuid primary key,
    version    bigint      not null,
    created_at timestamptz not null,
    name       text        not null,
    email      text
);
create index investors_by_name on investors (name, id);

create table commitments (
    id           uuid primary key,
    version      bigint      not null,
    created_at   timestamptz not null,
    fund_id      uuid        not null,
    investor_id  uuid        not null references investors (id),
    currency     text        not null,
    amount       numeric     not null check (amount > 0),
    effective_on date        not null,
    called       numeric     not null default 0 check (called >= 0),
    unfunded     numeric     not null check (unfunded >= 0),
    constraint commitment_once unique (fund_id, investor_id)
);

create index commitments_of_investor on commitments (investor_id);

create table capital_calls (
    id           uuid primary key,
    version      bigint      not null,
    created_at   timestamptz not null,
    fund_id      uuid        not null,
    fund_type    text        not null,
    currency     text        not null,
    amount       numeric     not null check (amount > 0),
    purposes     jsonb       not null,
    due_on       date        not null,
    priority     text        not null check (priority in ('normal', 'high', 'urgent')),
    requested_by text        not null,
    content_hash text        not null,
    decision     text        not null check (decision in ('pending_approval', 'issued', 'cancelled')),
    issued_on    date,
    line_count   integer     not null default 0,
    paid         numeric     not null default 0 check (paid >= 0 and paid <= amount),
    constraint issued_has_date check ((decision = 'issued') = (issued_on is not null))
) with (fillfactor = 80);
create index capital_calls_of_fund on capital_calls (fund_id, id desc);

create table call_lines (
    id                 uuid primary key,
    version            bigint      not null,
    created_at         timestamptz not null,
    call_id            uuid        not null references capital_calls (id),
    fund_id            uuid        not null,
    fund_type          text        not null,
    investor_id        uuid        not null references investors (id),
    currency           text        not null,
    amount             numeric     not null check (amount > 0),
    impact_on_unfunded numeric     not null check (impact_on_unfunded <= 0 and -impact_on_unfunded <= amount),
    paid               numeric     not null default 0 check (paid >= 0 and paid <= amount),
    unapplied          numeric     not null default 0 check (unapplied >= 0),
    due_on             date        not null,
    issued_on          date        not null,
    grace_days         integer     not null check (grace_days >= 0),
    timezone           text        not null,
    purposes           jsonb       not null,
    constraint line_once unique (call_id, investor_id)
) with (fillfactor = 80);

create index call_lines_of_fund on call_lines (fund_id, id desc);
create index call_lines_of_investor on call_lines (investor_id, id desc);

create table payments (
    id           uuid primary key,
    version      bigint      not null,
    created_at   timestamptz not null,
    line_id      uuid        not null references call_lines (id),
    call_id      uuid        not null,
    fund_id      uuid        not null,
    investor_id  uuid        not null,
    currency     text        not null,
    amount       numeric     not null check (amount > 0),
    applied      numeric     not null check (applied >= 0),
    unapplied    numeric     not null check (unapplied >= 0),
    method       text        not null check (method in ('wire', 'ach', 'sepa', 'check', 'internal_transfer')),
    reference    text        not null,
    received_on  date        not null,
    recorded_by  text        not null,
    reversal     jsonb,
    constraint payment_split check (applied + unapplied = amount)
);
create index payments_of_line on payments (line_id, id desc);
create index payments_of_call on payments (call_id, id desc);
create index payments_of_fund on payments (fund_id, id desc);
-- the same cash is not recorded twice, whatever key it comes with, until it is reversed
create unique index payment_once on payments (line_id, reference, method, received_on, amount) where reversal is null;
