-- A call may have a number in another system; a fund has one call of it that is not given up.
alter table capital_calls add column external_reference text;
create unique index capital_call_reference on capital_calls (fund_id, external_reference) 
    where external_reference is not null and decision not in ('cancelled', 'rescinded');
