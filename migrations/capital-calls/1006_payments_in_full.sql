-- What becomes of cash beyond its line: bank charges, suspense, refunds, credit that pays another line.
alter table call_lines add column charges numeric not null default 0 check (charges >= 0 and charges <= paid);
alter table payments
    add column charges            numeric not null default 0 check (charges >= 0),
    add column suspended          numeric not null default 0 check (suspended >= 0),
    add column refunded           numeric not null default 0 check (refunded >= 0),
    add column moved              numeric not null default 0 check (moved >= 0),
    -- null: at once
    add column clears_on          date,
    add column source             text,
    add column external_reference text,
    add column receipt_id         uuid,
    add column moved_from         uuid references payments (id),
    add column suspense           jsonb,
    drop constraint payment_split;
alter table payments
    add constraint payment_split check (applied + unapplied + suspended + refunded + moved = amount + charges),
    add constraint source_and_reference check ((source is null) = (external_reference is null));
-- the same cash is recorded once, however often it is reported
create unique index payment_once on payments (source, external_reference) where source is not null;
create index payments_of_receipt on payments (receipt_id) where receipt_id is not null;
create index payments_moved_from on payments (moved_from) where moved_from is not null;

create table refunds (
    id                uuid primary key,
    version           bigint      not null,
    created_at        timestamptz not null,
    fund_id           uuid        not null,
    fund_type         text        not null,
    investor_id       uuid        not null references investors (id),
    currency          text        not null,
    amount            numeric     not null check (amount > 0),
    payment_id        uuid references payments (id),
    closing_id        uuid references closings (id),
    reason            text        not null,
    requested_by      text        not null,
    content_hash      text        not null,
    decision          text        not null check (decision in ('pending_approval', 'approved', 'cancelled')),
    cancelled_because text,
    payout            jsonb,
    constraint refund_of_one check (num_nonnulls(payment_id, closing_id) = 1),
    constraint paid_out_when_approved check (payout is null or decision = 'approved')
);
create index refunds_of_fund on refunds (fund_id, id desc);
create index refunds_of_payment on refunds (payment_id);
create index refunds_of_closing on refunds (closing_id, investor_id);
do $$
begin
    execute format('revoke delete, truncate on refunds from %I', current_schema());
end $$;
