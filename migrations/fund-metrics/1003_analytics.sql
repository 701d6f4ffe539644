-- When a line was issued and when it was funded, with what was before. A line that is not funded has no date: most payments change
-- neither. Versions are forgotten, so that every line is sent again with the dates; its other figures are known, and the differences stay right.
alter table lines
    add column funded_on          date,
    add column previous_funded_on date,
    add column issued_on          date,
    add column previous_issued_on date;
update lines set version = 0;

-- How many lines are due on a day, and how many of those that are paid in full were funded by then or later.
alter table due_totals
    add column lines          bigint  not null default 0,
    add column lines_on_time  bigint  not null default 0,
    add column lines_late     bigint  not null default 0,
    add column funded_on_time numeric not null default 0,
    add column funded_late    numeric not null default 0;
update due_totals set lines = known.lines
from (
    select holder, holder_id, currency, due_on, count(*) as lines
    from lines cross join lateral (values ('fund', fund_id), ('portfolio', '00000000-0000-0000-0000-000000000000'::uuid))
         as holders (holder, holder_id)
    where called > 0
    group by holder, holder_id, currency, due_on
) as known
where (due_totals.holder, due_totals.holder_id, due_totals.currency, due_totals.due_on)
    = (known.holder, known.holder_id, known.currency, known.due_on);

-- Lines by the month of their issue. Of funds and of the portfolio; an investor's lines are summed when they are asked for.
create table issue_totals (
    holder    text    not null,
    holder_id uuid    not null,
    currency  text    not null,
    month     date    not null,
    lines     bigint  not null,
    called    numeric not null,
    primary key (holder, holder_id, month, currency)
) with (fillfactor = 50);

-- How many lines were funded in a month so many days after their due date or their issue: exact quantiles, from as many rows as there
-- are different numbers of days.
create table funding_days (
    holder    text    not null,
    holder_id uuid    not null,
    currency  text    not null,
    start     text    not null check (start in ('due', 'issue')),
    month     date    not null,
    days      integer not null,
    lines     bigint  not null,
    called    numeric not null,
    primary key (holder, holder_id, start, month, currency, days)
) with (fillfactor = 50);

-- Each investor of a fund: its few lines are found by both.
create index commitments_of_fund on commitments (fund_id, investor_id);
create index lines_of_investor_and_fund on lines (investor_id, fund_id);
drop index lines_of_investor;
