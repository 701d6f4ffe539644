-- The same cash may have been recorded before on another line of its payer.
create index payments_of_payer on payments (investor_id, received_on, amount) where reversal is null and moved_from is null;
-- The parts of a receipt have its source, and the first its reference, too. All rows so far are within this: they are not read again.
alter table payments
    drop constraint source_and_reference,
    add constraint reference_of_source check (external_reference is null or source is not null) not valid;
