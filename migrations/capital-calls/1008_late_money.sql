-- Lines that are paid late, and what is done about it.
alter table call_lines
    add column interest_paid    numeric not null default 0 check (interest_paid >= 0),
    -- the terms of the issue; null without interest
    add column default_interest jsonb,
    add column failure_notice   jsonb,
    add column default_declared jsonb,
    add column cured_on         date,
    drop constraint call_lines_disposition_check;
alter table call_lines
    add constraint call_lines_disposition_check check (disposition in ('none', 'excused', 'rescinded', 'covered_by_others')),
    add constraint default_after_notice check (default_declared is null or failure_notice is not null);

alter table payments
    add column interest numeric not null default 0 check (interest >= 0),
    drop constraint payment_split;
alter table payments
    add constraint payment_split check (applied + interest + unapplied + suspended + refunded + moved = amount + charges);

alter table capital_calls add column covers_line_id uuid references call_lines (id);

alter table commitments
    add column defaulted_on date,
    add column remedy       text check (remedy in ('forfeit', 'sale', 'set_off', 'reinstate'));

create table remedies (
    id            uuid primary key,
    line_id       uuid        not null references call_lines (id),
    commitment_id uuid        not null references commitments (id),
    at            timestamptz not null,
    kind          text        not null check (kind in ('forfeit', 'sale', 'set_off', 'reinstate')),
    amount        numeric     check (amount > 0),
    effective_on  date        not null,
    reason        text        not null,
    recorded_by   text        not null,
    payment_id    uuid references payments (id),
    constraint amount_unless_reinstated check ((kind = 'reinstate') = (amount is null)),
    constraint payment_of_set_off check ((kind = 'set_off') = (payment_id is not null))
);
create index remedies_of_line on remedies (line_id, id);
do $$
begin
    execute format('revoke update, delete, truncate on remedies from %I', current_schema());
end $$;
