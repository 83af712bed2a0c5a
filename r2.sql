SELECT keepsake.soft_delete('kept.thread', 1);
\timing on
BEGIN;
SELECT /*kept*/ keepsake.restore(id) FROM keepsake.deletion WHERE state = 'deleted';
\timing off
COMMIT;
VACUUM kept.thread, kept.post, kept.remark;
BEGIN;
        UPDATE bare.thread SET deleted_at = now(), deletion_id = '00000000-0000-7000-8000-000000000001' WHERE id = 1;
        UPDATE bare.post c SET deleted_at = now(), deletion_id = '00000000-0000-7000-8000-000000000001' FROM bare.thread p WHERE p.deletion_id IS NOT NULL AND p.id = c.thread_id AND c.deleted_at IS NULL;
        UPDATE bare.remark c SET deleted_at = now(), deletion_id = '00000000-0000-7000-8000-000000000001' FROM bare.post p WHERE p.deletion_id IS NOT NULL AND p.id = c.post_id AND c.deleted_at IS NULL;
COMMIT;
\timing on
BEGIN;
UPDATE bare.thread SET deleted_at = NULL, deletion_id = NULL WHERE deletion_id IS NOT NULL;
UPDATE bare.post SET deleted_at = NULL, deletion_id = NULL WHERE deletion_id IS NOT NULL;
UPDATE bare.remark SET deleted_at = NULL, deletion_id = NULL WHERE deletion_id IS NOT NULL;
\timing off
COMMIT;
VACUUM bare.thread, bare.post, bare.remark;
SELECT keepsake.soft_delete('kept.thread', 1);
\timing on
BEGIN;
SELECT /*kept*/ keepsake.restore(id) FROM keepsake.deletion WHERE state = 'deleted';
\timing off
COMMIT;
VACUUM kept.thread, kept.post, kept.remark;
BEGIN;
        UPDATE bare.thread SET deleted_at = now(), deletion_id = '00000000-0000-7000-8000-000000000001' WHERE id = 1;
        UPDATE bare.post c SET deleted_at = now(), deletion_id = '00000000-0000-7000-8000-000000000001' FROM bare.thread p WHERE p.deletion_id IS NOT NULL AND p.id = c.thread_id AND c.deleted_at IS NULL;
        UPDATE bare.remark c SET deleted_at = now(), deletion_id = '00000000-0000-7000-8000-000000000001' FROM bare.post p WHERE p.deletion_id IS NOT NULL AND p.id = c.post_id AND c.deleted_at IS NULL;
COMMIT;
\timing on
BEGIN;
UPDATE bare.thread SET deleted_at = NULL, deletion_id = NULL WHERE deletion_id IS NOT NULL;
UPDATE bare.post SET deleted_at = NULL, deletion_id = NULL WHERE deletion_id IS NOT NULL;
UPDATE bare.remark SET deleted_at = NULL, deletion_id = NULL WHERE deletion_id IS NOT NULL;
\timing off
COMMIT;
VACUUM bare.thread, bare.post, bare.remark;
SELECT keepsake.soft_delete('kept.thread', 1);
\timing on
BEGIN;
SELECT /*kept*/ keepsake.restore(id) FROM keepsake.deletion WHERE state = 'deleted';
\timing off
COMMIT;
VACUUM kept.thread, kept.post, kept.remark;
BEGIN;
        UPDATE bare.thread SET deleted_at = now(), deletion_id = '00000000-0000-7000-8000-000000000001' WHERE id = 1;
        UPDATE bare.post c SET deleted_at = now(), deletion_id = '00000000-0000-7000-8000-000000000001' FROM bare.thread p WHERE p.deletion_id IS NOT NULL AND p.id = c.thread_id AND c.deleted_at IS NULL;
        UPDATE bare.remark c SET deleted_at = now(), deletion_id = '00000000-0000-7000-8000-000000000001' FROM bare.post p WHERE p.deletion_id IS NOT NULL AND p.id = c.post_id AND c.deleted_at IS NULL;
COMMIT;
\timing on
BEGIN;
UPDATE bare.thread SET deleted_at = NULL, deletion_id = NULL WHERE deletion_id IS NOT NULL;
UPDATE bare.post SET deleted_at = NULL, deletion_id = NULL WHERE deletion_id IS NOT NULL;
UPDATE bare.remark SET deleted_at = NULL, deletion_id = NULL WHERE deletion_id IS NOT NULL;
\timing off
COMMIT;
VACUUM bare.thread, bare.post, bare.remark;
SELECT keepsake.soft_delete('kept.thread', 1);
\timing on
BEGIN;
SELECT /*kept*/ keepsake.restore(id) FROM keepsake.deletion WHERE state = 'deleted';
\timing off
COMMIT;
VACUUM kept.thread, kept.post, kept.remark;
BEGIN;
        UPDATE bare.thread SET deleted_at = now(), deletion_id = '00000000-0000-7000-8000-000000000001' WHERE id = 1;
        UPDATE bare.post c SET deleted_at = now(), deletion_id = '00000000-0000-7000-8000-000000000001' FROM bare.thread p WHERE p.deletion_id IS NOT NULL AND p.id = c.thread_id AND c.deleted_at IS NULL;
        UPDATE bare.remark c SET deleted_at = now(), deletion_id = '00000000-0000-7000-8000-000000000001' FROM bare.post p WHERE p.deletion_id IS NOT NULL AND p.id = c.post_id AND c.deleted_at IS NULL;
COMMIT;
\timing on
BEGIN;
UPDATE bare.thread SET deleted_at = NULL, deletion_id = NULL WHERE deletion_id IS NOT NULL;
UPDATE bare.post SET deleted_at = NULL, deletion_id = NULL WHERE deletion_id IS NOT NULL;
UPDATE bare.remark SET deleted_at = NULL, deletion_id = NULL WHERE deletion_id IS NOT NULL;
\timing off
COMMIT;
VACUUM bare.thread, bare.post, bare.remark;
SELECT keepsake.soft_delete('kept.thread', 1);
\timing on
BEGIN;
SELECT /*kept*/ keepsake.restore(id) FROM keepsake.deletion WHERE state = 'deleted';
\timing off
COMMIT;
VACUUM kept.thread, kept.post, kept.remark;
BEGIN;
        UPDATE bare.thread SET deleted_at = now(), deletion_id = '00000000-0000-7000-8000-000000000001' WHERE id = 1;
        UPDATE bare.post c SET deleted_at = now(), deletion_id = '00000000-0000-7000-8000-000000000001' FROM bare.thread p WHERE p.deletion_id IS NOT NULL AND p.id = c.thread_id AND c.deleted_at IS NULL;
        UPDATE bare.remark c SET deleted_at = now(), deletion_id = '00000000-0000-7000-8000-000000000001' FROM bare.post p WHERE p.deletion_id IS NOT NULL AND p.id = c.post_id AND c.deleted_at IS NULL;
COMMIT;
\timing on
BEGIN;
UPDATE bare.thread SET deleted_at = NULL, deletion_id = NULL WHERE deletion_id IS NOT NULL;
UPDATE bare.post SET deleted_at = NULL, deletion_id = NULL WHERE deletion_id IS NOT NULL;
UPDATE bare.remark SET deleted_at = NULL, deletion_id = NULL WHERE deletion_id IS NOT NULL;
\timing off
COMMIT;
VACUUM bare.thread, bare.post, bare.remark;
