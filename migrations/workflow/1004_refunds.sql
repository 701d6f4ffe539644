-- Refunds have workflows too.
alter table workflows drop constraint workflows_subject_kind_check;
alter table workflows add constraint workflows_subject_kind_check check (subject_kind in ('allocation', 'capital_call', 'refund'));
