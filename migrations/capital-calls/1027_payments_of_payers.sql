-- The same cash may have been recorded before on another line of its payer.
create index payments_of_payer on payments (investor_id, received_on, amount) where reversal is null and moved_from is null;
