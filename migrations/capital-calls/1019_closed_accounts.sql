-- Accounts that were registered by mistake or are not used any more.
alter table bank_accounts
    add column closed_by text,
    add column closed_at timestamptz;
