-- Who waits for the lock holds up those who come later: rather the migration is refused, and run again.
set local lock_timeout = '10s';
-- The parts of a receipt have its source, and the first its reference, too. All rows so far are within this: they are not read again.
alter table payments
    drop constraint source_and_reference,
    add constraint reference_of_source check (external_reference is null or source is not null) not valid;
drop index payment_once;
create unique index payment_once on payments (source, external_reference) where external_reference is not null;
