-- Each part of a line says whether it is inside the commitment, as its call does; a call may have one kind of purpose both ways.
update call_lines as line
set purposes = coalesce((
    select jsonb_agg(part || jsonb_build_object('inside_commitment', coalesce((
               select (purpose ->> 'inside_commitment')::boolean
               from jsonb_array_elements(call.purposes) as purpose
               where purpose ->> 'kind' = part ->> 'kind' and purpose ->> 'allocation_id' is not distinct from part ->> 'allocation_id'
               limit 1), false)) order by place)
    from jsonb_array_elements(line.purposes) with ordinality as parts (part, place)), '[]')
from capital_calls as call
where call.id = line.call_id;
