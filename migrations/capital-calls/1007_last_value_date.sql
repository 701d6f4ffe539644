-- When a line was funded.
alter table call_lines add column last_paid_on date;
update call_lines set last_paid_on = paid.last_paid_on
from (select line_id, max(received_on) as last_paid_on from payments where reversal is null and applied > 0 group by line_id) as paid
where call_lines.id = paid.line_id;
