-- The types of the funds: a fund's rules stand above those of its type, and of no other.
create table funds (
    id        uuid primary key,
    epoch     integer not null,
    version   bigint  not null,
    fund_type text    not null
);
