-- What came or went with a transferred interest and was drawn before: it is promised, and not unfunded. Versions are forgotten, so that every
-- commitment is sent again with it; its amount is known, and the differences stay right.
alter table commitments add column drawn_transferred numeric not null default 0;
update commitments set version = 0;
