-- Names under which investors have paid, as a person has confirmed: of a custodian, or where a bank tells no account. Several investors
-- may pay under one name.
create table payer_aliases (
    name         text not null,
    fund_id      uuid not null,
    investor_id  uuid not null references investors (id),
    confirmed_by text not null,
    confirmed_at timestamptz not null,
    primary key (name, fund_id, investor_id)
);
