-- The epoch that events are written under: read as it is now, not as it was when the statement began, and held until the
-- transaction ends. None while it is being raised.
create function epoch_for_writing() returns integer language plpgsql volatile set search_path from current as $$
begin
    if not pg_try_advisory_xact_lock_shared(hashtextextended(current_schema() || ' epoch', 0)) then
        return null;
    end if;
    return (select epoch from service_state);
end $$;
