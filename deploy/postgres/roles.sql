-- For each service: a schema, an owner role that runs its migrations, and a login role for the
-- service itself that can touch no other schema. Run by a superuser in an empty database:
--   psql -v password="'...'" -f roles.sql
-- Safe to run again: what exists is kept, the passwords are set anew.
select set_config('tranche.password', :password, false);

do $$
declare
    service text;
    owner   text;
begin
    -- one at a time: databases of one server share their roles
    perform pg_advisory_xact_lock(7274263);
    execute format('revoke all on database %I from public', current_database());
    foreach service in array array['workflow', 'capital_calls', 'allocation_status', 'fund_metrics', 'audit', 'notifications']
    loop
        owner := service || '_owner';
        if not exists (select from pg_roles where rolname = owner) then
            execute format('create role %I login', owner);
            execute format('create role %I login', service);
        end if;
        if current_setting('tranche.password') <> '' then
            execute format('alter role %I password %L', owner, current_setting('tranche.password'));
            execute format('alter role %I password %L', service, current_setting('tranche.password'));
        end if;
        execute format('grant connect on database %I to %I, %I', current_database(), owner, service);
        execute format('create schema if not exists %I authorization %I', service, owner);
        execute format('grant usage on schema %I to %I', service, service);
        execute format('alter default privileges for role %I in schema %I grant select, insert, update, delete on tables to %I', owner, service, service);
        execute format('alter default privileges for role %I in schema %I grant usage on sequences to %I', owner, service, service);
        -- where a read model is made anew before it takes the place of the one that is read
        execute format('create schema if not exists %I authorization %I', service || '_rebuild', owner);
        execute format('grant usage on schema %I to %I', service || '_rebuild', service);
        execute format('alter default privileges for role %I in schema %I grant select, insert, update, delete on tables to %I', owner, service || '_rebuild', service);
        execute format('alter role %I in database %I set search_path = %I', owner, current_database(), service);
        execute format('alter role %I in database %I set search_path = %I', service, current_database(), service);
    end loop;
end $$;
