-- The rules of the shared crate, as SQL sees them.
SELECT keepsake.sanitize_filename(E'..\\..\\etc/pass\u202Ewd.txt'), keepsake.sanitize_filename('CON.txt'), keepsake.sanitize_filename('');
SELECT keepsake.is_filename('report.pdf'), keepsake.is_filename('a/b'), keepsake.is_filename('nul'), keepsake.is_filename(E'a\u0301.png');
SELECT keepsake.is_entity_type('post'), keepsake.is_entity_type('uploads'), keepsake.is_entity_type('Post');
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
SELECT keepsake.is_file_types('+zip -mov'), keepsake.is_file_types('zip') AS refused;
SELECT jsonb_path_query_array(keepsake.check_file_types('{a.zip,b.mov,c.png,README}', '+zip -mov'), '$[*].pointer') AS refused;
SELECT keepsake.check_file_types('{a.zip}', 'everything');
SELECT keepsake.uuid_v7() < keepsake.uuid_v7() AS in_order;
SELECT proname, provolatile, proisstrict, proparallel FROM pg_proc
WHERE pronamespace = 'keepsake'::regnamespace AND proname IN ('sanitize_filename', 'is_filename', 'object_key', 'parse_object_key', 'sniff', 'content_disposition', 'media_type', 'check_upload')
ORDER BY 1;

-- Signatures that aws-sigv4 1.6.4 and aws4fetch 1.0.20 give for the same requests.
SELECT keepsake.presign('PUT', 'https://acct.r2.cloudflarestorage.com', 'bucket', 't1/0198f7d0-1111-7aaa-8bbb-000000000001', 'auto',
    'AKIAIOSFODNN7EXAMPLE', 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY', '2026-09-01 00:00:00+00', 900,
    '{"content-length": "12345", "content-type": "image/png", "if-none-match": "*", "x-amz-checksum-sha256": "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="}')
    LIKE '%&X-Amz-Signature=aac0b0b0e276608875d56d9a2d7833fe1261b69a2482c859bb29065225fd1edd' AS as_others_sign;
SELECT keepsake.presign('GET', 'https://acct.r2.cloudflarestorage.com', 'bucket', E't1/a b+(c)*''!~é/x', 'auto',
    'AKIAIOSFODNN7EXAMPLE', 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY', '2026-09-01 00:00:00+00', 900)
    LIKE '%&X-Amz-Signature=dfeb897e1ed0003b55baed68117039a3dba16ac2e5aa7d1f7a61027a950f63ef' AS as_others_sign;
SELECT keepsake.presign('GET', 'https://s3.example', 'bucket', 'a/../b', 'auto', 'A', 'B', now(), 900);
SELECT keepsake.presign('GET', 'https://s3.example', 'bucket', 'a', 'auto', 'A', 'B', now(), 604801);
SELECT keepsake.presign('GET', 'https://s3.example', 'bucket', 'a', 'auto', 'A', 'B', now(), 60, '{"x": 1}');
SELECT keepsake.presign('GET', 'https://s3.example', 'bucket', 'a', 'auto', 'A', 'B', now(), 60, '{"x": "a\r\nb"}');
