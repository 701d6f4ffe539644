-- What banks say.
create table bank_accounts (
    account       text primary key,
    fund_id       uuid        not null,
    currency      text        not null,
    registered_by text        not null,
    registered_at timestamptz not null
);
create index bank_accounts_of_fund on bank_accounts (fund_id);

-- Accounts from which an investor has paid, as a person has confirmed.
create table payer_accounts (
    account      text not null,
    fund_id      uuid not null,
    investor_id  uuid not null references investors (id),
    confirmed_by text not null,
    confirmed_at timestamptz not null,
    primary key (account, fund_id)
);

create table column_maps (
    name     text primary key,
    map      jsonb       not null,
    saved_by text        not null,
    saved_at timestamptz not null
);

-- Entries of files that are not read to their end yet: nothing of them counts.
create table staged_entries (
    import_id uuid        not null,
    place     integer     not null,
    entry     jsonb       not null,
    staged_at timestamptz not null,
    primary key (import_id, place)
);

create table bank_imports (
    id      uuid primary key,
    import  jsonb   not null,
    -- on whose behalf its entries are matched
    roles   text[]  not null,
    scope   uuid[],
    -- whether entries are left that were put aside
    waiting boolean not null default true
);
create index bank_imports_waiting on bank_imports (id) where waiting;

create table bank_entries (
    id            uuid primary key,
    version       bigint      not null,
    created_at    timestamptz not null,
    fund_id       uuid,
    import_id     uuid        not null,
    account       text        not null,
    reference_key text,
    content_key   text        not null,
    decision      text        not null check (decision in ('detected', 'matched', 'suggested', 'unmatched', 'returned', 'information')),
    entry         jsonb       not null,
    matched       jsonb       not null,
    end_to_end_id text,
    amount        numeric     not null check (amount >= 0),
    payment_ids   uuid[]      not null default '{}'
) with (fillfactor = 80);
create index bank_entries_by_reference on bank_entries (reference_key) where reference_key is not null;
create index bank_entries_by_content on bank_entries (content_key);
create index bank_entries_of_fund on bank_entries (fund_id, id desc);
create index bank_entries_of_import on bank_entries (import_id, id desc);
create index bank_entries_waiting on bank_entries (decision, id desc) where decision in ('suggested', 'unmatched');
create index bank_entries_by_end_to_end_id on bank_entries (end_to_end_id) where end_to_end_id is not null;
do $$
begin
    execute format('revoke delete, truncate on bank_entries, bank_imports, bank_accounts from %I', current_schema());
end $$;
