-- A deletion of several files at once, by one statement in SQL, has no one root: whoever restores it has to be let change the
-- files of each thing, as for one.
CREATE FUNCTION attachments.refuse_restore(one keepsake.deletion) RETURNS jsonb
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    thing record;
    refusal jsonb;
BEGIN
    -- A thing is brought back by the rights that the extension asks for.
    IF one.root_table <> 'attachments.attachment'::regclass THEN
        RETURN NULL;
    END IF;
    FOR thing IN
        SELECT DISTINCT a.entity_type, a.entity_id FROM attachments.attachment a WHERE a.deletion_id = one.id ORDER BY 1, 2
    LOOP
        refusal := attachments.refuse_change(thing.entity_type, thing.entity_id);
        EXIT WHEN refusal IS NOT NULL;
    END LOOP;
    RETURN refusal;
END
$$;

CREATE OR REPLACE FUNCTION attachments_api.restore_deletion(claims jsonb, request jsonb) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM attachments.begin_recovery(claims);
    RETURN coalesce(attachments.refuse_restore(attachments.find_deletion((request ->> 'deletion_id')::uuid)),
                    attachments.restore_deletion(claims, request));
END
$$;
