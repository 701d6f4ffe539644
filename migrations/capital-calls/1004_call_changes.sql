-- The fund's calendars. Versions are forgotten, so that every fund is sent again with them.
alter table funds add column calendar text not null default '';
update funds set version = 0;

-- The allocations that an investor is excused from.
alter table commitments add column excused_from uuid[] not null default '{}';

-- Calls that are written down, amended or taken back.
alter table capital_calls
    add column adjustments     jsonb   not null default '[]',
    add column rounding        text    not null default 'per_call' check (rounding in ('per_call', 'cumulative')),
    add column authors          text[]  not null default '{}',
    add column submitted_at     timestamptz,
    add column amendment        integer not null default 0 check (amendment >= 0),
    add column amendments_asked integer not null default 0 check (amendments_asked >= amendment),
    add column amending         jsonb,
    add column decided_because text,
    drop constraint capital_calls_decision_check,
    drop constraint issued_has_date;
update capital_calls set submitted_at = created_at;
alter table capital_calls
    add constraint capital_calls_decision_check
        check (decision in ('draft', 'pending_approval', 'issued', 'cancelled', 'rescinded')),
    add constraint issued_has_date check ((decision in ('issued', 'rescinded')) = (issued_on is not null)),
    add constraint amended_after_issue check (amending is null or decision = 'issued');

-- Lines that their call has changed: nothing may be called of an investor any more, and what is returned may be more than what is
-- called inside the commitment.
alter table call_lines
    add column amendment   integer not null default 0 check (amendment >= 0),
    add column disposition text    not null default 'none' check (disposition in ('none', 'excused', 'rescinded')),
    drop constraint call_lines_amount_check,
    drop constraint call_lines_check;
alter table call_lines
    add constraint call_lines_amount_check check (amount >= 0),
    add constraint call_lines_impact_check check (-impact_on_unfunded <= amount);

-- Credit that may pay when another payment of the line bounces.
create index payments_with_credit on payments (line_id) where unapplied > 0 and reversal is null;

-- How lines changed after their issue: with it they are what they were issued with.
create table line_entries (
    id                 uuid primary key,
    line_id            uuid        not null references call_lines (id),
    version            bigint      not null,
    at                 timestamptz not null,
    amount             numeric     not null,
    impact_on_unfunded numeric     not null,
    paid               numeric     not null,
    reason             text        not null,
    recorded_by        text        not null,
    constraint entry_once unique (line_id, version)
);
do $$
begin
    execute format('revoke update, delete, truncate on line_entries from %I', current_schema());
end $$;
