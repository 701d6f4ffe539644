-- Allocations are taken back: because their deal will not happen, or because somebody asks for it.
alter table allocations
    drop constraint allocations_decision_check,
    add column withdrawal jsonb;
alter table allocations
    add constraint allocations_decision_check check (decision in ('pending_approval', 'active', 'denied', 'cancelled'));
-- a fund has one allocation to a deal that is pending or in force
drop index allocation_once;
create unique index allocation_once on allocations (fund_id, deal_id) where decision in ('pending_approval', 'active');
-- The version with which a deal came to be off, and the one whose coming an allocation has met: what is said twice happens once.
alter table deals add column off_since bigint;
alter table allocations add column off_heeded bigint;
