-- A payment that is taken back has the entry wait again that it came from.
create index bank_entries_by_payment on bank_entries using gin (payment_ids);
