-- The rules of the shared crate, as SQL sees them.
SELECT keepsake.sanitize_filename(E'..\\..\\etc/pass\u202Ewd.txt'), keepsake.sanitize_filename('CON.txt'), keepsake.sanitize_filename('');
SELECT keepsake.is_filename('report.pdf'), keepsake.is_filename('a/b'), keepsake.is_filename('nul'), keepsake.is_filename(E'a\u0301.png');
SELECT keepsake.filename_comparison_key('A.PNG') = keepsake.filename_comparison_key('a.png') AS same;
SELECT keepsake.filename_comparison_key('..');
SELECT keepsake.object_key('acme', 'post', '7', '0198f7d0-1111-7aaa-8bbb-000000000001', 'photo.PNG');
SELECT keepsake.object_key('ac/me', 'post', '7', '0198f7d0-1111-7aaa-8bbb-000000000001', 'photo.png');
SELECT keepsake.object_key('acme', 'post', '7', '0198f7d0-1111-7aaa-8bbb-000000000001', 'photo');
SELECT keepsake.object_key('acme', 'post', '7', '11111111-1111-4111-8111-111111111111', 'photo.png');
SELECT keepsake.parse_object_key('t/acme/post/7/0198f7d0-1111-7aaa-8bbb-000000000001.png');
SELECT keepsake.parse_object_key('t/acme/../7/x.png') IS NULL AS refused;
SELECT keepsake.media_type('photo.jpeg'), keepsake.media_type('run.exe') IS NULL AS refused;
SELECT keepsake.sniff('\x89504e470d0a1a0a0000000d49484452'), keepsake.sniff('hello');
SELECT keepsake.content_disposition('résumé.pdf'), keepsake.content_disposition('a.png', true);
SELECT keepsake.check_upload('{"entity_type": "post", "entity_id": "1", "files": [{"name": "a.png", "size": 1, "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}]}');
SELECT jsonb_path_query_array(keepsake.check_upload('{"entity_type": "post", "entity_id": "1", "files": [{"name": "../a.png", "size": 0, "sha256": "x"}, {"name": "b.exe", "size": 99999999, "sha256": "x"}]}', '{"max_file_bytes": 5}'), '$[*].code') AS codes;
SELECT keepsake.check_upload('{"files": 1}');
SELECT keepsake.check_upload('{"entity_type": "post", "entity_id": "1", "files": []}', '{"max_fles": 1}');
SELECT keepsake.uuid_v7() < keepsake.uuid_v7() AS in_order;
SELECT proname, provolatile, proisstrict, proparallel FROM pg_proc
WHERE pronamespace = 'keepsake'::regnamespace AND proname IN ('sanitize_filename', 'is_filename', 'object_key', 'parse_object_key', 'sniff', 'content_disposition', 'media_type', 'check_upload')
ORDER BY 1;
