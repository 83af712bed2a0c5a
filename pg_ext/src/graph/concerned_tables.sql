-- Tables kept in place, every table that refers to one or is referred to by one, and those with an archive that have declared references.
WITH concerned AS (
    SELECT relation::oid AS oid FROM keepsake.kept_in_place
    UNION
    SELECT con.conrelid FROM pg_constraint con
    WHERE con.contype = 'f' AND con.conparentid = 0 AND con.confrelid IN (SELECT relation FROM keepsake.kept_in_place)
    UNION
    SELECT con.confrelid FROM pg_constraint con
    WHERE con.contype = 'f' AND con.conparentid = 0 AND con.conrelid IN (SELECT relation FROM keepsake.kept_in_place)
    UNION
    SELECT child FROM keepsake.declared_reference
    UNION
    SELECT parent FROM keepsake.declared_reference
)
