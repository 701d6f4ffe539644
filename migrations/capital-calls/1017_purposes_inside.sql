-- Each part of a line says whether it is inside the commitment, as its call does. A call may have one kind of purpose both ways: the
-- first of them in the line is the first in the call, and so on.
with parts as (
    select line.id, part, place, row_number() over (partition by line.id, part ->> 'kind', part ->> 'allocation_id' order by place) as nth
    from call_lines as line cross join jsonb_array_elements(line.purposes) with ordinality as parts (part, place)
), purposes as (
    select call.id, purpose, row_number() over (partition by call.id, purpose ->> 'kind', purpose ->> 'allocation_id' order by place) as nth
    from capital_calls as call cross join jsonb_array_elements(call.purposes) with ordinality as purposes (purpose, place)
), told as (
    select parts.id, jsonb_agg(part || jsonb_build_object('inside_commitment', coalesce((purpose ->> 'inside_commitment')::boolean, false))
                               order by place) as purposes
    from parts
    join call_lines as line on line.id = parts.id
    left join purposes on purposes.id = line.call_id and purposes.nth = parts.nth and purpose ->> 'kind' = part ->> 'kind'
                      and purpose ->> 'allocation_id' is not distinct from part ->> 'allocation_id'
    group by parts.id
)
update call_lines set purposes = told.purposes from told where told.id = call_lines.id;
