-- Where cash is sent. What is secret is in `body`, under a data key of the row: see the chassis' sealing.
create table bank_details (
    id               uuid primary key,
    version          bigint      not null,
    created_at       timestamptz not null,
    fund_id          uuid,
    investor_id      uuid references investors (id),
    holder_id        uuid        not null generated always as (coalesce(fund_id, investor_id)) stored,
    currency         text        not null,
    -- masked
    account          text        not null,
    hash             text        not null,
    decision         text        not null check (decision in ('proposed', 'confirmed', 'rejected')),
    proposed_by      text        not null,
    reason           text        not null,
    decided_by       text,
    call_back        jsonb,
    usable_from      timestamptz,
    rejected_because text,
    key_id           text        not null,
    wrapped_key      bytea       not null,
    body             bytea       not null,
    constraint bank_details_of_one check (num_nonnulls(fund_id, investor_id) = 1),
    constraint confirmed_by_a_second_person check (
        decision <> 'confirmed'
        or (decided_by is not null and decided_by <> proposed_by and call_back is not null and usable_from is not null)
    )
);
create unique index bank_details_one_proposal on bank_details (holder_id, currency) where decision = 'proposed';
create index bank_details_confirmed on bank_details (holder_id, currency, usable_from desc, id desc) where decision = 'confirmed';
create index bank_details_of_holder on bank_details (holder_id, id desc);
create index bank_details_by_key on bank_details (key_id);

-- what the notice of a line says, pinned when it was issued or amended
alter table call_lines add column instructions jsonb;

-- Accounts were kept in the clear. They are masked now, and found by an index that only the service can make: accounts of funds are
-- registered once more, and payers are remembered anew when a person confirms them.
delete from bank_accounts;
alter table bank_accounts
    add column account_key text not null,
    drop constraint bank_accounts_pkey,
    add primary key (account_key);
delete from payer_accounts;
alter table payer_accounts rename column account to account_key;
delete from staged_entries where not exists (select from bank_imports where id = import_id);
update bank_entries
set account = '****' || right(account, 4),
    entry = entry || jsonb_build_object('account', '****' || right(account, 4))
            || case when entry ->> 'payer_account' is null then '{}'::jsonb
                    else jsonb_build_object('payer_account', '****' || right(entry ->> 'payer_account', 4)) end;

do $$
begin
    execute format('revoke delete, truncate on bank_details from %I', current_schema());
end $$;
