-- Changes of bank details have workflows, too.
alter table workflows
    drop constraint workflows_subject_kind_check,
    add constraint workflows_subject_kind_check
        check (subject_kind in ('allocation', 'capital_call', 'refund', 'withdrawal', 'bank_details'));
-- They have no amount.
alter table approvals
    drop constraint approvals_amount_check,
    add constraint approvals_amount_check check (amount > 0 or subject_kind = 'bank_details' and amount = 0);
