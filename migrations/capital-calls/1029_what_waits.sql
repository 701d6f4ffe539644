-- Whether cash that comes has gone back before: few returns wait for it, however many entries there are.
create index bank_entries_returns_that_wait on bank_entries (id) where decision = 'unmatched' and not (entry ->> 'credit')::boolean;
-- What waits for a person: few of all payments.
create index payments_in_suspense on payments (id desc) where suspended > 0 and reversal is null;
