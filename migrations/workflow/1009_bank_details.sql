-- Changes of bank details have workflows, too.
alter table workflows
    drop constraint workflows_subject_kind_check,
    add constraint workflows_subject_kind_check
        check (subject_kind in ('allocation', 'capital_call', 'refund', 'withdrawal', 'bank_details'));
