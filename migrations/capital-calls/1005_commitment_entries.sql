-- How commitments came about: with it an amount is the sum of its entries on any date.
create table closings (
    id               uuid primary key,
    version          bigint      not null,
    created_at       timestamptz not null,
    fund_id          uuid        not null,
    currency         text        not null,
    closed_on        date        not null,
    due_on           date        not null,
    interest_percent numeric     not null check (interest_percent between 0 and 100),
    committed        numeric     not null check (committed > 0),
    equalised        numeric     not null check (equalised >= 0),
    interest         numeric     not null check (interest >= 0),
    interest_call_id uuid        references capital_calls (id),
    calls            jsonb       not null,
    recorded_by      text        not null,
    constraint due_after_closing check (due_on >= closed_on)
);
create index closings_of_fund on closings (fund_id, id desc);

create table closing_shares (
    closing_id  uuid    not null references closings (id),
    investor_id uuid    not null references investors (id),
    equalised   numeric not null,
    interest    numeric not null,
    primary key (closing_id, investor_id)
);

create table commitment_entries (
    id                 uuid primary key,
    commitment_id      uuid        not null references commitments (id),
    fund_id            uuid        not null,
    version            bigint      not null,
    at                 timestamptz not null,
    kind               text        not null
        check (kind in ('initial', 'increase', 'reduction', 'transfer_in', 'transfer_out', 'release')),
    amount             numeric     not null,
    impact_on_unfunded numeric     not null,
    effective_on       date        not null,
    counterpart_id     uuid references commitments (id),
    closing_id         uuid references closings (id),
    reason             text        not null,
    recorded_by        text        not null,
    constraint commitment_entry_once unique (commitment_id, version)
);
create index commitment_entries_of_fund on commitment_entries (fund_id, effective_on);

insert into commitment_entries (id, commitment_id, fund_id, version, at, kind, amount, impact_on_unfunded, effective_on, reason, recorded_by)
select id, id, fund_id, 1, created_at, 'initial', amount, amount, effective_on, 'initial commitment', 'migration' from commitments;

alter table commitments
    add column drawn_transferred numeric not null default 0,
    add column released_on       date,
    drop constraint commitments_amount_check;
alter table commitments add constraint commitments_amount_check check (amount >= 0);

-- From when a change of a line counts; as of a date, it is what it was then.
alter table line_entries add column effective_on date;
update line_entries set effective_on = (at at time zone 'UTC')::date;
alter table line_entries alter column effective_on set not null;
do $$
begin
    execute format('revoke update, delete, truncate on commitment_entries, closings, closing_shares from %I', current_schema());
end $$;
