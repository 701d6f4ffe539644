-- What a service keeps secret for itself: each with a data key of its own, wrapped under a key of ENCRYPTION_KEYS_FILE.
create table sealed_secrets (
    id          uuid primary key,
    key_id      text  not null,
    wrapped_key bytea not null,
    body        bytea not null
);
