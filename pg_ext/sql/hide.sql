-- Tables whose deleted rows ordinary reads do not see.
CREATE TABLE keepsake.hidden_reads (
    relation    regclass PRIMARY KEY,
    how         text NOT NULL CHECK (how IN ('view', 'policy')),
    view        regclass,
    enabled_rls boolean NOT NULL DEFAULT false,
    CHECK ((how = 'view') = (view IS NOT NULL))
);
COMMENT ON TABLE keepsake.hidden_reads IS
    'Tables whose deleted rows keepsake.hide_deleted() hides. enabled_rls: whether hide_deleted() enabled row-level security on the table.';
GRANT SELECT ON keepsake.hidden_reads TO PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('keepsake.hidden_reads', '');
