-- What decides which notices a line asks for, and whether they were planned for it as it is: an amendment supersedes them.
alter table lines
    add column amendment   integer not null default 0,
    add column disposition text    not null default 'none',
    add column is_planned  boolean not null default true;
alter table lines alter column is_planned set default false;
