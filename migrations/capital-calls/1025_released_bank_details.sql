-- Bank details are used once the steps of their change are done, which the rules define; those that were confirmed before have none.
alter table bank_details add column released_at timestamptz, add column fund_type text;
update bank_details set released_at = usable_from where decision = 'confirmed';
update bank_details set fund_type = funds.fund_type from funds where funds.id = bank_details.fund_id;
