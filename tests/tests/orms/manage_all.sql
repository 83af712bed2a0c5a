-- Every table is managed as soon as it has a primary key, and what hangs on one.
SELECT keepsake.manage_schema(s, retention => '30 days', on_truncate => 'archive') FROM unnest('{public,test_schema,test_schema_2}'::regnamespace[]) AS s;
