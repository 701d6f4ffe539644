-- The newest version of each call line that is asked for.
create table lines (
    id          uuid primary key,
    epoch       integer not null,
    version     bigint  not null,
    call_id     uuid    not null,
    fund_id     uuid    not null,
    investor_id uuid    not null,
    currency    text    not null,
    amount      numeric not null,
    outstanding numeric not null,
    due_on      date    not null,
    timezone    text    not null
) with (fillfactor = 80);

create table investors (
    id      uuid primary key,
    epoch   integer not null,
    version bigint  not null,
    email   text
);

-- What is to be sent for a line, once for each rule.
create table schedules (
    line_id   uuid        not null references lines (id),
    rule      text        not null,
    kind      text        not null check (kind in ('capital_call', 'reminder', 'overdue', 'escalation')),
    -- the instant at which the business date of the fund begins
    send_at   timestamptz not null,
    -- reminders: while something is outstanding
    wanted    boolean     not null,
    raised_at timestamptz,
    primary key (line_id, rule)
);
create index schedules_due on schedules (send_at, line_id) where raised_at is null and wanted;

-- A notice on its way by mail.
create table deliveries (
    notice_id  uuid primary key,
    created_at timestamptz not null,
    recipient  text        not null,
    notice     jsonb       not null,
    attempts   integer     not null default 0,
    due_at     timestamptz,
    sent_at    timestamptz,
    error      text
);
create index deliveries_due on deliveries (due_at) where due_at is not null;
