-- What the readers would have made of the owners' tables.
insert into capital_calls.funds select id, 1, version, fund_type, currency, timezone from allocation_status.funds;
insert into capital_calls.allocations select id, 1, version, fund_id, amount, true, called from allocation_status.allocations;
insert into fund_metrics.funds select id, 1, version, name, currency, timezone from allocation_status.funds;
insert into fund_metrics.commitments (id, epoch, version, fund_id, investor_id, currency, amount)
    select id, 1, version, fund_id, investor_id, currency, amount from capital_calls.commitments;
insert into fund_metrics.allocations (id, epoch, version, fund_id, currency, amount, active)
    select id, 1, version, fund_id, currency, amount, 1 from allocation_status.allocations;
insert into fund_metrics.lines (id, epoch, version, fund_id, investor_id, currency, due_on, called, paid, impact, unapplied, issued_on, funded_on)
    select id, 1, version, fund_id, investor_id, currency, due_on, amount, paid, impact_on_unfunded, unapplied, issued_on,
           case when amount > 0 and paid >= amount then last_paid_on end
    from capital_calls.call_lines;
insert into fund_metrics.totals (holder, holder_id, currency, version, committed, called, paid_in, impact, unapplied, allocated,
                                 commitments, lines, lines_paid, allocations)
    select holder, holder_id, currency, 1, coalesce(sum(committed), 0), coalesce(sum(called), 0), coalesce(sum(paid_in), 0),
           coalesce(sum(impact), 0), coalesce(sum(unapplied), 0), coalesce(sum(allocated), 0), coalesce(sum(commitments), 0),
           coalesce(sum(lines), 0), coalesce(sum(lines_paid), 0), coalesce(sum(allocations), 0)
    from (
        select fund_id, currency, amount as committed, 0 as called, 0 as paid_in, 0 as impact, 0 as unapplied, 0 as allocated,
               1 as commitments, 0 as lines, 0 as lines_paid, 0 as allocations
        from capital_calls.commitments
        union all
        select fund_id, currency, 0, amount, paid, impact_on_unfunded, unapplied, 0, 0, 1, (paid >= amount)::int, 0
        from capital_calls.call_lines
        union all
        select fund_id, currency, 0, 0, 0, 0, 0, amount, 0, 0, 0, 1 from allocation_status.allocations
    ) as facts
    cross join lateral (values ('fund', fund_id), ('portfolio', '00000000-0000-0000-0000-000000000000'::uuid))
         as holders (holder, holder_id)
    group by holder, holder_id, currency;
insert into fund_metrics.due_totals (holder, holder_id, currency, due_on, called, paid_in, lines_open, lines, lines_on_time, lines_late,
                                     funded_on_time, funded_late)
    select holder, holder_id, currency, due_on, sum(called), sum(paid), count(*) filter (where paid < called),
           count(*) filter (where called > 0), count(*) filter (where funded_on <= due_on), count(*) filter (where funded_on > due_on),
           coalesce(sum(called) filter (where funded_on <= due_on), 0), coalesce(sum(called) filter (where funded_on > due_on), 0)
    from fund_metrics.lines
    cross join lateral (values ('fund', fund_id), ('portfolio', '00000000-0000-0000-0000-000000000000'::uuid))
         as holders (holder, holder_id)
    group by holder, holder_id, currency, due_on;
insert into fund_metrics.issue_totals (holder, holder_id, currency, month, lines, called)
    select holder, holder_id, currency, date_trunc('month', issued_on)::date, count(*) filter (where called > 0), sum(called)
    from fund_metrics.lines
    cross join lateral (values ('fund', fund_id), ('portfolio', '00000000-0000-0000-0000-000000000000'::uuid))
         as holders (holder, holder_id)
    group by 1, 2, 3, 4;
insert into fund_metrics.funding_days (holder, holder_id, currency, start, month, days, lines, called)
    select holder, holder_id, currency, start, date_trunc('month', funded_on)::date, funded_on - day, count(*), sum(called)
    from fund_metrics.lines
    cross join lateral (values ('fund', fund_id), ('portfolio', '00000000-0000-0000-0000-000000000000'::uuid))
         as holders (holder, holder_id)
    cross join lateral (values ('due', due_on), ('issue', issued_on)) as starts (start, day)
    where funded_on is not null
    group by 1, 2, 3, 4, 5, 6;
insert into notifications.investors select id, 1, version, email from capital_calls.investors;
insert into notifications.lines (id, epoch, version, call_id, fund_id, investor_id, currency, amount, outstanding, due_on, timezone, is_planned)
    select id, 1, version, call_id, fund_id, investor_id, currency, amount, amount - paid, due_on, timezone, true from capital_calls.call_lines;
insert into notifications.schedules (line_id, rule, kind, send_at, raised_at)
    select id, rule, kind, send_at, raised_at
    from capital_calls.call_lines
    cross join lateral (values ('issued', 'capital_call', now(), now()), ('due-7', 'reminder', due_on - 7, null),
                               ('overdue', 'overdue', due_on + 1, null), ('escalation', 'escalation', due_on + 14, null))
         as notices (rule, kind, send_at, raised_at);
insert into allocation_status.line_shares (line_id, allocation_id, epoch, version, called, paid)
    select id, (purpose ->> 'allocation_id')::uuid, 1, version, (purpose ->> 'amount')::numeric, (purpose ->> 'paid')::numeric
    from capital_calls.call_lines cross join lateral jsonb_array_elements(purposes) as purpose
    where purpose ->> 'allocation_id' is not null;
-- Every request had its workflow.
insert into workflow.workflows (id, version, created_at, subject_kind, subject_id, fund_id, requested_by, correlation_id, subject, steps, status)
    select gen_random_uuid(), 1, created_at, 'allocation', id, fund_id, requested_by, id::text, '{}'::jsonb, '[]'::jsonb, 'completed' from allocation_status.allocations
    union all
    select gen_random_uuid(), 1, created_at, 'capital_call', id, fund_id, requested_by, id::text, '{}'::jsonb, '[]'::jsonb, 'completed' from capital_calls.capital_calls;
-- The audit has put its old records aside: it compares what comes from now on.
insert into audit.log_positions (owner, position)
    select owner, (select max(log_id) from capital_calls.event_log) + (256 << 12)
    from unnest(array['capital-calls', 'allocation-status']) as owner;
-- New transactions write behind what was loaded.
select setval('capital_calls.event_log_blocks', (select max(log_id) >> 12 from capital_calls.event_log) + 1);
select setval('allocation_status.event_log_blocks', (select max(log_id) >> 12 from allocation_status.event_log) + 1);
