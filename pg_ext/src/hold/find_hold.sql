SELECT id FROM keepsake.hold
WHERE released_at IS NULL AND CASE
    WHEN $2 IS NOT NULL THEN relation = $1 AND row_key = $2
    WHEN $3 IS NOT NULL THEN deletion_id = $3
    ELSE tenant = $4 END
