-- A call has a workflow for itself and one for each of its amendments; what an approval is about may change while it waits.
alter table workflows drop constraint workflow_once;
create index workflows_of_subject on workflows (subject_id);
-- The version of the subject that the workflow last heard of, in the epoch beside it.
alter table workflows add column subject_version bigint not null default 0;
alter table approvals
    drop constraint approval_once,
    drop constraint approvals_status_check,
    -- the content that was voted on is not what is asked for any more
    add column voided   boolean  not null default false,
    -- the order in which they are shown: what is urgent first
    add column priority smallint not null default 2;
alter table approvals add constraint approvals_status_check check (status in ('pending', 'approved', 'denied', 'voided'));
create index approvals_of_workflow on approvals (workflow_id);
drop index approvals_by_status;
create index approvals_by_status on approvals (status, priority, created_at, id);
