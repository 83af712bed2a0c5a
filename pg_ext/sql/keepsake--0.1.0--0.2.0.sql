-- From 0.1.0 to 0.2.0.

-- The triggers and indexes of the application's tables, as this version makes them.
SELECT keepsake.manage(relation) FROM keepsake.managed_table;
