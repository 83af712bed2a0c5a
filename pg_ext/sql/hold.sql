-- Legal holds: while one is active, nothing that it covers is purged.
CREATE TABLE keepsake.hold (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- What is held: a row, a deletion, or all deletions of a tenant.
    relation    regclass,
    row_key     jsonb,
    deletion_id uuid,
    tenant      text,
    reason      text NOT NULL,
    actor       text NOT NULL,
    -- The evidence of who: current_user, and session_user, who logged in. actor is what the application says.
    role         name,
    session_role name,
    held_at     timestamptz NOT NULL DEFAULT pg_catalog.now(),
    released_by text,
    released_role         name,
    released_session_role name,
    released_at timestamptz,
    CHECK (num_nonnulls(row_key, deletion_id, tenant) = 1 AND (relation IS NULL) = (row_key IS NULL))
);
-- A key that has lost a column (keepsake.follow_column) no longer tells rows apart: holds of different rows can have the same.
CREATE UNIQUE INDEX hold_of_row ON keepsake.hold (relation, row_key)
    WHERE released_at IS NULL AND row_key IS NOT NULL AND NOT row_key OPERATOR(pg_catalog.?) '';
CREATE UNIQUE INDEX hold_of_deletion ON keepsake.hold (deletion_id) WHERE released_at IS NULL AND deletion_id IS NOT NULL;
CREATE UNIQUE INDEX hold_of_tenant ON keepsake.hold (tenant) WHERE released_at IS NULL AND tenant IS NOT NULL;
COMMENT ON TABLE keepsake.hold IS
    'Legal holds. A hold is active until released_at is set; released holds stay as a record.';
SELECT pg_catalog.pg_extension_config_dump('keepsake.hold', '');
SELECT pg_catalog.pg_extension_config_dump('keepsake.hold_id_seq', '');
