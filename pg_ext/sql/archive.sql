-- Archives: where the rows of a table managed with keep => 'archive' go when they are deleted.

-- Owns every archive and can do nothing else: whatever runs with the rights of an archive's owner, as ANALYZE does, has none.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'keepsake_archive') THEN
        CREATE ROLE keepsake_archive NOLOGIN;
    END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
    -- Another database of the cluster made it at the same time.
    NULL;
END
$$;

CREATE TABLE keepsake.archive_table (
    archive       regclass PRIMARY KEY,
    -- NULL once the table is dropped.
    relation      regclass UNIQUE,
    -- The OID that it had: deletions know it by that.
    former        oid,
    source_schema name NOT NULL,
    source_name   name NOT NULL,
    -- What keepsake.bound_storage says of the table, kept when the table is dropped. By the names that archive_column has.
    object_key     name,
    writable_until name,
    by_month       boolean NOT NULL DEFAULT false
);
COMMENT ON TABLE keepsake.archive_table IS
    'The archive of each table. object_key, writable_until: of a table that is bound to the bucket, the columns whose archived values name an object, and say until when it can be stored. by_month: it gets a table for each month.';

CREATE TABLE keepsake.archive_month (
    month_table regclass PRIMARY KEY,
    archive     regclass NOT NULL,
    -- Its first day, in UTC.
    month       date NOT NULL,
    -- Deletions of the month have ids from the first on and before the second: an id begins with its time.
    begins      uuid NOT NULL,
    ends        uuid NOT NULL,
    UNIQUE (archive, month)
);
COMMENT ON TABLE keepsake.archive_month IS
    'The month tables of archives that keepsake.archive_by_month() has divided: each inherits from its archive, and has the rows of one month''s deletions.';

CREATE TABLE keepsake.archive_column (
    archive        regclass NOT NULL,
    layout         integer NOT NULL,
    -- A column of the table's is known by its number, which stays when it is renamed.
    source_attnum  smallint NOT NULL,
    -- What it is called now, in every layout: a dump numbers columns anew.
    source_name    name NOT NULL,
    -- Nobody but Keepsake renames a column of an archive.
    archive_name   name NOT NULL,
    type           regtype NOT NULL,
    typmod         integer NOT NULL,
    -- A text, because pg_upgrade takes no regcollation; NULL where the type has none.
    "collation"    text,
    missing        text,
    generated      boolean NOT NULL,
    -- How the values of the layout before became those of this one: NULL as by an assignment, otherwise as USING said.
    conversion     text CHECK (conversion IN ('cast', 'unknown')),
    -- Of which table source_attnum is: see keepsake.number_anew().
    numbered       text NOT NULL,
    -- Whether it was in the primary key: by that, rows of the layout are versions of one row, or not.
    in_key         boolean NOT NULL DEFAULT false,
    PRIMARY KEY (archive, layout, archive_name)
);
COMMENT ON TABLE keepsake.archive_column IS
    'The columns that a table had when rows were archived, one layout after the other. missing: what rows of earlier layouts have in a column that came with this one.';

CREATE TABLE keepsake.archive_undo (
    group_id    uuid NOT NULL,
    deletion_id uuid NOT NULL,
    -- In the order in which the transaction set them.
    seq         integer NOT NULL,
    relation    regclass NOT NULL,
    -- Column names follow ALTER TABLE.
    key_columns text[] NOT NULL,
    columns     text[] NOT NULL,
    -- One for each of key_columns or columns, as the column's type prints them.
    key_values  text[] NOT NULL,
    old_values  text[] NOT NULL,
    new_values  text[] NOT NULL
);
-- Without a key, for who publishes all tables.
ALTER TABLE keepsake.archive_undo REPLICA IDENTITY FULL;
CREATE INDEX archive_undo_deletion ON keepsake.archive_undo (deletion_id, seq);
COMMENT ON TABLE keepsake.archive_undo IS
    'What rows referred to before the transaction of a deletion set it to NULL or to the default; restore() puts it back.';

GRANT SELECT ON keepsake.archive_table, keepsake.archive_column, keepsake.archive_month TO PUBLIC;

SELECT pg_catalog.pg_extension_config_dump('keepsake.archive_table', '');
SELECT pg_catalog.pg_extension_config_dump('keepsake.archive_column', '');
SELECT pg_catalog.pg_extension_config_dump('keepsake.archive_undo', '');
SELECT pg_catalog.pg_extension_config_dump('keepsake.archive_month', '');
