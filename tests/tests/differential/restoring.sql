-- What the tables hold, and what the archive does; both asked past the engine.
CREATE SCHEMA seen;

CREATE TABLE seen.rows (moment text, relation text, key text, line jsonb, bytes text);

-- Roots of partitions, and tables: those that can be restored.
CREATE VIEW seen.tables AS
SELECT m.relation, c.relkind FROM keepsake.managed_table m JOIN pg_class c ON c.oid = m.relation;

CREATE FUNCTION seen.take(at text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    r record;
BEGIN
    DELETE FROM seen.rows WHERE moment = at;
    FOR r IN SELECT * FROM seen.tables LOOP
        EXECUTE format('INSERT INTO seen.rows SELECT %L, tableoid::regclass::text, format(''%%s/%%s'', id, k), to_jsonb(x) - ''seen'', encode(sha256(record_send(x)), ''hex'') FROM %s %s AS x',
            at, CASE r.relkind WHEN 'p' THEN '' ELSE 'ONLY' END, r.relation);
    END LOOP;
END $$;

CREATE FUNCTION seen.differences(one text, other text) RETURNS TABLE (only_in text, relation text, line jsonb, bytes text)
LANGUAGE sql AS $$
    SELECT one, * FROM (SELECT r.relation, r.line, r.bytes FROM seen.rows r WHERE moment = one
        EXCEPT ALL SELECT r.relation, r.line, r.bytes FROM seen.rows r WHERE moment = other) AS a
    UNION ALL
    SELECT other, * FROM (SELECT r.relation, r.line, r.bytes FROM seen.rows r WHERE moment = other
        EXCEPT ALL SELECT r.relation, r.line, r.bytes FROM seen.rows r WHERE moment = one) AS b
    LIMIT 20
$$;

-- Everything in the archive, without what Keepsake adds.
CREATE FUNCTION seen.archived() RETURNS TABLE (deletion uuid, relation text, line jsonb) LANGUAGE plpgsql AS $$
DECLARE
    r record;
BEGIN
    FOR r IN SELECT a.archive, a.relation FROM keepsake.archive_table a LOOP
        RETURN QUERY EXECUTE format(
            'SELECT keepsake_deletion, %L, to_jsonb(x) - ''keepsake_deletion'' - ''keepsake_seq'' - ''keepsake_layout'' - ''seen'' FROM %s AS x',
            r.relation::regclass::text, r.archive);
    END LOOP;
END $$;

CREATE FUNCTION seen.root(relation text) RETURNS text LANGUAGE sql AS $$
    SELECT coalesce(pg_partition_root(relation::regclass), relation::regclass)::text
$$;

-- Deletions that are made since the last round.
CREATE TABLE seen.deletions (id uuid PRIMARY KEY);
INSERT INTO seen.deletions SELECT id FROM keepsake.deletion;

CREATE FUNCTION seen.open() RETURNS TABLE (id uuid) LANGUAGE sql AS $$
    SELECT d.id FROM keepsake.deletion d WHERE d.id NOT IN (SELECT s.id FROM seen.deletions s)
$$;

-- Rows that are gone and not in the archive, and the other way round. A row that one statement changed and then removed
-- is archived as it was in between, so rows are told by their keys.
CREATE FUNCTION seen.not_archived() RETURNS TABLE (what text, relation text, key text) LANGUAGE sql AS $$
    WITH gone AS (
        SELECT seen.root(r.relation) AS relation, r.key FROM seen.rows r WHERE moment = 'before'
        EXCEPT ALL SELECT seen.root(r.relation), r.key FROM seen.rows r WHERE moment = 'after'
    ), archived AS (
        SELECT a.relation, format('%s/%s', a.line ->> 'id', a.line ->> 'k') AS key
        FROM seen.archived() a WHERE a.deletion IN (SELECT id FROM seen.open())
    )
    (SELECT 'gone, not archived', * FROM (TABLE gone EXCEPT ALL TABLE archived) AS a)
    UNION ALL
    (SELECT 'archived, not gone', * FROM (TABLE archived EXCEPT ALL TABLE gone) AS b)
    LIMIT 20
$$;

-- Restores them all, the latest first: nothing else has happened, so none may fail. But where a key waits for the commit, a
-- transaction may remove a row after the one that it refers to, which then has to come back with it.
CREATE FUNCTION seen.restore_all() RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    r record;
    conflicts text;
BEGIN
    FOR r IN SELECT id FROM seen.open() ORDER BY id DESC LOOP
        BEGIN
            RETURN NEXT keepsake.restore(r.id)::text;
        EXCEPTION WHEN integrity_constraint_violation THEN
            GET STACKED DIAGNOSTICS conflicts = PG_EXCEPTION_DETAIL;
            IF NOT seen.lack_parents_of_deferrable_keys(conflicts::jsonb) THEN
                RAISE;
            END IF;
            RETURN NEXT keepsake.restore(r.id, on_conflict => 'parents')::text;
        END;
        INSERT INTO seen.deletions VALUES (r.id);
    END LOOP;
END $$;

CREATE FUNCTION seen.lack_parents_of_deferrable_keys(conflicts jsonb) RETURNS boolean LANGUAGE sql AS $$
    SELECT bool_and(c ->> 'kind' = 'parent_deleted' AND EXISTS (
        SELECT FROM pg_constraint WHERE conrelid = (c ->> 'table')::regclass AND conname = c ->> 'constraint' AND condeferrable))
    FROM jsonb_array_elements(conflicts) AS c
$$;

-- The registry counts what the archive holds.
CREATE FUNCTION seen.wrong_counts() RETURNS TABLE (deletion uuid, relation text, counted bigint, there bigint) LANGUAGE sql AS $$
    SELECT * FROM (
        SELECT coalesce(h.deletion_id, a.deletion), coalesce(h.relation::regclass::text, a.relation) AS relation,
               coalesce(h.row_count - h.purged, 0) AS counted, coalesce(a.there, 0) AS there
        FROM (SELECT t.* FROM keepsake.deletion_table t JOIN keepsake.deletion d ON d.id = t.deletion_id AND d.state <> 'restored') AS h
        FULL JOIN (SELECT deletion, seen.root(relation) AS relation, count(*) AS there FROM seen.archived() GROUP BY 1, 2) AS a
            ON a.deletion = h.deletion_id AND a.relation = h.relation::regclass::text
    ) AS h WHERE counted <> there
    LIMIT 20
$$;
