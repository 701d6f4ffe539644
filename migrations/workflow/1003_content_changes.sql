-- A call has a workflow for itself and one for each of its amendments; what an approval is about may change while it waits.
alter table workflows drop constraint workflow_once;
create index workflows_of_subject on workflows (subject_id);
-- The newest version of each call that was heard of, drafts included: what comes late is not taken for news.
create table calls_heard (
    id      uuid primary key,
    epoch   integer not null,
    version bigint  not null
) with (fillfactor = 70);
alter table approvals
    drop constraint approval_once,
    drop constraint approvals_status_check,
    -- the content that was voted on is not what is asked for any more
    add column voided   boolean  not null default false,
    -- who has written the content: none of them may vote
    add column authors  text[]   not null default '{}',
    -- the order in which they are shown: what is urgent first
    add column priority smallint not null default 2;
alter table approvals add constraint approvals_status_check check (status in ('pending', 'approved', 'denied', 'voided'));
create index approvals_of_workflow on approvals (workflow_id);
drop index approvals_by_status;
create index approvals_by_status on approvals (status, priority, created_at, id);
