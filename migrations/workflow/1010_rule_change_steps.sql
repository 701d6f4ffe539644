-- Changes of rules have workflows, too: these put them in force when their time has come.
alter table workflows
    drop constraint workflows_subject_kind_check,
    add constraint workflows_subject_kind_check
        check (subject_kind in ('allocation', 'capital_call', 'refund', 'withdrawal', 'bank_details', 'rule_change'));
