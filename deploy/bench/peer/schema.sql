create table answers (key text primary key, reply json not null);
create table lines (id uuid primary key, amount numeric not null, paid numeric not null);
create table payments (
    id uuid primary key default gen_random_uuid(), line_id uuid not null references lines (id), amount numeric not null,
    method text not null, reference text not null, received_on date not null
);
create index payments_of_line on payments (line_id);
create table outbox (id uuid primary key default gen_random_uuid(), body json not null);
