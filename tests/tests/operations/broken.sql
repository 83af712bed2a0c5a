SELECT string_agg(what, '; ') FROM (
    SELECT format('live post %s in deleted thread', c.id) AS what
    FROM post c JOIN thread p ON p.id = c.thread_id WHERE c.deleted_at IS NULL AND p.deleted_at IS NOT NULL
    UNION ALL
    SELECT format('live comment %s on deleted post', c.id)
    FROM comment c JOIN post p ON p.id = c.post_id WHERE c.deleted_at IS NULL AND p.deleted_at IS NOT NULL
    UNION ALL
    SELECT format('live comment %s to deleted comment', c.id)
    FROM comment c JOIN comment p ON p.id = c.reply_to WHERE c.deleted_at IS NULL AND p.deleted_at IS NOT NULL
    UNION ALL
    SELECT format('live file %s of deleted post', c.id)
    FROM file c JOIN post p ON p.id = c.entity_id::bigint WHERE c.deleted_at IS NULL AND p.deleted_at IS NOT NULL
    UNION ALL
    SELECT format('deletion %s counts %s rows of %s and has %s', d.deletion_id, d.row_count - d.purged, d.relation, coalesce(r.n, 0))
    FROM keepsake.deletion_table d
    JOIN keepsake.deletion o ON o.id = d.deletion_id AND o.state <> 'restored'
    LEFT JOIN (
        SELECT 'thread'::regclass AS relation, deletion_id, count(*) AS n FROM thread GROUP BY deletion_id
        UNION ALL SELECT 'post', deletion_id, count(*) FROM post GROUP BY deletion_id
        UNION ALL SELECT 'comment', deletion_id, count(*) FROM comment GROUP BY deletion_id
        UNION ALL SELECT 'file', deletion_id, count(*) FROM file GROUP BY deletion_id
    ) r USING (relation, deletion_id)
    WHERE d.row_count - d.purged <> coalesce(r.n, 0)
    UNION ALL
    SELECT format('%s belongs to no open deletion', t.id)
    FROM (SELECT id, deleted_at, deletion_id FROM thread UNION ALL SELECT id, deleted_at, deletion_id FROM post
          UNION ALL SELECT id, deleted_at, deletion_id FROM comment UNION ALL SELECT id, deleted_at, deletion_id FROM file) t
    WHERE (t.deleted_at IS NULL) <> (t.deletion_id IS NULL)
       OR t.deletion_id IS NOT NULL AND NOT EXISTS (
           SELECT FROM keepsake.deletion d WHERE d.id = t.deletion_id AND d.state IN ('deleted', 'purging'))
) AS found
