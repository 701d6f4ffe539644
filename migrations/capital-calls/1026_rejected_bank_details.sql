-- Bank details that are rejected while they are in use keep the time from which they were: those before them are not in use again.
drop index bank_details_confirmed;
create index bank_details_taken_into_use on bank_details (holder_id, currency, usable_from desc, id desc) where usable_from is not null;
