-- Made by `cargo run -p keepsake-schema -- baseline` from migrations/schema: change those files.

-- 24_versions.sql
DROP FUNCTION attachments_api.restore_version;
DROP FUNCTION attachments_api.version_content;
DROP FUNCTION attachments_api.list_versions;
DROP FUNCTION attachments.describe_version;
DROP FUNCTION attachments.refuse_unreadable_version;
DROP FUNCTION attachments.find_version;
DROP FUNCTION attachments_api.create_version;
DROP FUNCTION attachments.declaration_of_version;
DROP FUNCTION attachments.refuse_version;
DROP FUNCTION attachments.make_current;
DROP FUNCTION attachments.purge_old_versions;
DROP FUNCTION attachments.is_version_held;
DROP FUNCTION attachments.exchange_contents;
DROP FUNCTION attachments.max_versions;
DROP TABLE attachments.version_limit;

-- 23_worker_role.sql
DROP FUNCTION attachments.worker_rights;

-- 22_version.sql
DROP FUNCTION attachments_api.schema_version;
DROP FUNCTION attachments.schema_version;

-- 21_erasure.sql
DROP FUNCTION attachments_api.list_erasures;
DROP FUNCTION attachments_api.erase;
DROP FUNCTION attachments.describe_erasure;
DROP FUNCTION attachments.erase;
DROP FUNCTION attachments.refuse_held_tenant;
DROP FUNCTION attachments.hurry_objects;
DROP FUNCTION attachments.kept_entities;
DROP FUNCTION attachments.left_entities;
DROP FUNCTION attachments.kept_deletions;
DROP FUNCTION attachments.kept_files;
DROP FUNCTION attachments.rename_subject;
DROP FUNCTION attachments.rename_files;
DROP FUNCTION attachments.held_deletions_of;
DROP FUNCTION attachments.erase_usage;
DROP FUNCTION attachments.erase_tenant_names;
DROP FUNCTION attachments.rename_rows;
DROP FUNCTION attachments.erase_rows;
DROP FUNCTION attachments.erase_uploads;
DROP FUNCTION attachments.erase_entities;
DROP FUNCTION attachments.purge_entities;
DROP FUNCTION attachments.delete_entities;
DROP FUNCTION attachments.deletions_of;
DROP FUNCTION attachments.erasable_entities;
DROP FUNCTION attachments.erase_files;
DROP FUNCTION attachments.keep_versions_of_others;
DROP FUNCTION attachments.make_current_again;
DROP FUNCTION attachments.purge_rows;
DROP FUNCTION attachments.purge_for_erasure;
DROP FUNCTION attachments.delete_for_erasure;
DROP FUNCTION attachments.is_all_of;
DROP FUNCTION attachments.erasable_files;
DROP FUNCTION attachments.holds_on_file;
DROP FUNCTION attachments.holds_of;
DROP FUNCTION attachments.check_entity_tables;
DROP FUNCTION attachments.check_column;
DROP FUNCTION attachments.add_report;
DROP FUNCTION attachments.add_count;
DROP FUNCTION attachments.erased_name;
DROP TABLE attachments.erasure;

-- 20_operator.sql
DROP FUNCTION attachments_api.release_hold;
DROP FUNCTION attachments_api.place_hold;
DROP FUNCTION attachments_api.list_holds;
DROP FUNCTION attachments.describe_hold;
DROP TABLE attachments.hold_release;
DROP FUNCTION attachments_api.retry_object;
DROP FUNCTION attachments_api.list_outbox;
DROP FUNCTION attachments_api.get_purge_plan;

-- 19_metrics.sql
DROP FUNCTION attachments_api.get_history;
DROP FUNCTION attachments_api.take_sample;
DROP FUNCTION attachments.thin_samples;
DROP FUNCTION attachments_api.metrics;
DROP TABLE attachments.sample;
DROP VIEW attachments.metrics;

-- 18_audit.sql
DROP FUNCTION attachments.restore_report;
DROP FUNCTION attachments.after_restore;
DROP FUNCTION attachments_api.list_findings;
DROP FUNCTION attachments_api.audit_objects;
DROP FUNCTION attachments_api.audit_place;
DROP FUNCTION attachments.note_findings;
DROP FUNCTION attachments.missing_objects;
DROP FUNCTION attachments.orphans;
DROP TABLE attachments.audit_finding;
DROP TABLE attachments.audit;

-- 17_schedule.sql
DROP FUNCTION attachments_api.list_runs;
DROP FUNCTION attachments_api.record_run;
DROP FUNCTION attachments_api.settle_objects;
DROP FUNCTION attachments_api.lease_objects;
DROP FUNCTION attachments_api.purge;
DROP FUNCTION attachments_api.lead_schedule;
DROP FUNCTION attachments_api.ping;
DROP TRIGGER wait_for_backups ON attachments.attachment;
DROP FUNCTION attachments.wait_for_backups;
DROP TABLE attachments.object_grace;
DROP TABLE attachments.schedule;
DROP TABLE attachments.run;

-- 16_events.sql
DROP FUNCTION attachments_api.retry_event;
DROP FUNCTION attachments_api.list_events;
DROP FUNCTION attachments.forget_events;
DROP FUNCTION attachments_api.settle_events;
DROP FUNCTION attachments_api.lease_events;
DROP FUNCTION attachments.tenants_to_tell;
DROP FUNCTION attachments.event_body;
DROP TRIGGER record_purges ON attachments.attachment;
DROP TRIGGER record_changes ON attachments.attachment;
DROP FUNCTION attachments.record_purges;
DROP FUNCTION attachments.record_changes;
DROP TABLE attachments.event_recording;
DROP TABLE attachments.event;

-- 15_deletions.sql
DROP FUNCTION attachments_api.restore_deletion;
DROP FUNCTION attachments.refuse_restore;
DROP FUNCTION attachments_api.get_deletion;
DROP FUNCTION attachments.refuse_deletion;
DROP FUNCTION attachments.conflicts_of;
DROP FUNCTION attachments_api.list_deletions;
DROP FUNCTION attachments.tree_of_deletion;
DROP FUNCTION attachments.nodes_of_deletion;
DROP FUNCTION attachments.describe_deletion;
DROP FUNCTION attachments.count_deleted;
DROP FUNCTION attachments.show_root;
DROP FUNCTION attachments.held_deletions;
DROP FUNCTION attachments.rows_of_deletion;
DROP FUNCTION attachments.tables_of_deletion;
DROP FUNCTION attachments.deletions_behind;
DROP FUNCTION attachments_api.restore_entity;
DROP FUNCTION attachments_api.delete_entity;
DROP FUNCTION attachments_api.restore_attachment;
DROP FUNCTION attachments_api.delete_attachment;
DROP FUNCTION attachments.restore_row;
DROP FUNCTION attachments.undo_deletion;
DROP FUNCTION attachments.delete_row;
DROP FUNCTION attachments.attachment_row;
DROP FUNCTION attachments.missing;
DROP FUNCTION attachments.find_deletion;

-- 14_conflicts.sql
DROP FUNCTION attachments.explain_conflicts;
DROP FUNCTION attachments.conflict_in_words;
DROP FUNCTION attachments.holder_table;

-- 13_items.sql
DROP FUNCTION attachments_api.rename_entity;
DROP FUNCTION attachments_api.get_entity;
DROP FUNCTION attachments_api.list_entities;
DROP FUNCTION attachments.entities_sql;
DROP FUNCTION attachments.describe_thing;
DROP FUNCTION attachments.in_words;
DROP FUNCTION attachments.show_entity;
DROP FUNCTION attachments.show_row;
DROP FUNCTION attachments.show_file;
DROP FUNCTION attachments.show_deleted_thing;
DROP FUNCTION attachments.show_thing;
DROP FUNCTION attachments.thing_item;
DROP FUNCTION attachments.parent_kinds;
DROP FUNCTION attachments.label_sql;
DROP FUNCTION attachments.entity_of;

-- 12_listing.sql
DROP FUNCTION attachments_api.list_attachments;
DROP FUNCTION attachments.describe_listed;
DROP FUNCTION attachments.describe_expiry;
DROP FUNCTION attachments.days_until;
DROP FUNCTION attachments.expiry_of;
DROP FUNCTION attachments.legacy_item;
DROP FUNCTION attachments.find_named;
DROP FUNCTION attachments.listing_conditions;
DROP FUNCTION attachments.first_id_at;

-- 11_scans.sql
DROP FUNCTION attachments_api.record_scan;
DROP FUNCTION attachments.take_verdict;
DROP FUNCTION attachments.scan_conflicts;
DROP FUNCTION attachments.reject_scanned;
DROP FUNCTION attachments.open_scanned;
DROP TRIGGER stop_for_scan ON attachments.attachment;
DROP FUNCTION attachments.stop_for_scan;
DROP VIEW attachments.scan_queue;
DROP TABLE attachments.scan_message;
DROP TABLE attachments.scan_policy;

-- 10_idempotency.sql
DROP FUNCTION attachments_api.tidy;
DROP FUNCTION attachments.declared_before;
DROP FUNCTION attachments.uploaded_before;
DROP FUNCTION attachments.remember_key;
DROP FUNCTION attachments.refuse_key;
DROP FUNCTION attachments.fingerprint;
DROP TABLE attachments.idempotency;

-- 09_quota.sql
DROP FUNCTION attachments_api.get_usage;
DROP FUNCTION attachments.describe_usage;
DROP TRIGGER release_usage ON attachments.attachment;
DROP TRIGGER reserve_usage ON attachments.attachment;
DROP FUNCTION attachments.release_usage;
DROP FUNCTION attachments.reserve_usage;
DROP FUNCTION attachments.refuse_too_many_pending;
DROP FUNCTION attachments.refuse_over_quota;
DROP FUNCTION attachments.is_over;
DROP FUNCTION attachments.next_room;
DROP FUNCTION attachments.pending_files;
DROP FUNCTION attachments.settle_usage;
DROP FUNCTION attachments.quota_of;
DROP TABLE attachments.usage_release;
DROP TABLE attachments.usage;
DROP TABLE attachments.quota;

-- 08_multipart.sql
DROP FUNCTION attachments_api.settle_multiparts;
DROP FUNCTION attachments_api.lease_multiparts;
DROP TRIGGER forget_multiparts ON attachments.upload_set;
DROP FUNCTION attachments.forget_multiparts;
DROP FUNCTION attachments_api.forget_part;
DROP FUNCTION attachments_api.record_part;
DROP FUNCTION attachments_api.begin_multipart;
DROP FUNCTION attachments_api.find_multipart;
DROP FUNCTION attachments.multipart_of;
DROP TABLE attachments.multipart_part;
DROP TABLE attachments.multipart;

-- 07_uploads.sql
DROP FUNCTION attachments_api.find_open_upload;
DROP FUNCTION attachments_api.lease_open_upload;
DROP FUNCTION attachments_api.sweep_uploads;
DROP FUNCTION attachments_api.abort_upload;
DROP FUNCTION attachments_api.reject_upload;
DROP FUNCTION attachments.close_upload;
DROP FUNCTION attachments.discard;
DROP FUNCTION attachments.remove_rejected;
DROP FUNCTION attachments.purge_live;
DROP FUNCTION attachments_api.complete_upload;
DROP FUNCTION attachments.complete_upload;
DROP FUNCTION attachments.mark_completed;
DROP FUNCTION attachments_api.get_upload;
DROP FUNCTION attachments.refuse_upload;
DROP FUNCTION attachments_api.create_upload;
DROP FUNCTION attachments.declare_once;
DROP FUNCTION attachments.declare_upload;
DROP FUNCTION attachments_api.get_limits;
DROP FUNCTION attachments.refused_types;
DROP FUNCTION attachments.file_types_of;
DROP TABLE attachments.file_type_rule;
DROP FUNCTION attachments.taken_names;
DROP FUNCTION attachments.files_of;
DROP FUNCTION attachments.describe_file;

-- 06_attachments.sql
-- The objects of live and deleted attachments are handed to the outbox, so that none is orphaned. Parts that the store still
-- holds are left to the bucket's rule for incomplete uploads. Indexes that register_entity made on the application's tables
-- stay, as their columns do.
INSERT INTO keepsake.outbox (object_key, relation, writable_until)
    SELECT object_key, 'attachments.attachment'::regclass, CASE WHEN writable_until > now() THEN writable_until END
    FROM attachments.attachment
    ON CONFLICT (object_key) DO NOTHING;
DROP FUNCTION attachments_api.rename_attachment;
DROP FUNCTION attachments_api.attachment_content;
DROP FUNCTION attachments_api.get_attachment;
DROP FUNCTION attachments.refuse_unreadable;
DROP FUNCTION attachments.content_of;
DROP FUNCTION attachments.describe;
DROP FUNCTION attachments.refuse_file_change;
DROP FUNCTION attachments.refuse_shut;
DROP FUNCTION attachments.find_deletable;
DROP FUNCTION attachments.find_attachment;
DROP TRIGGER terms_of_name ON attachments.attachment;
DROP TRIGGER terms_of_new_name ON attachments.attachment;
DROP FUNCTION attachments.terms_of_name;
DROP TRIGGER outlast_clocks ON attachments.attachment;
DROP FUNCTION attachments.outlast_clocks;
DROP FUNCTION attachments.clock_tolerance;
DROP TRIGGER check_state_change ON attachments.attachment;
DROP FUNCTION attachments.check_state_change;
DROP TABLE attachments.attachment;

-- 05_upload_sets.sql
DROP TABLE attachments.upload_set;

-- 04_file_names.sql
DROP FUNCTION attachments.word_condition;
DROP FUNCTION attachments.shared_terms;

-- 03_entities.sql
-- What plan_lookups() wrote.
DROP FUNCTION attachments.find_planned(text, text), attachments.lock_planned(text, text);
DROP FUNCTION attachments.refuse_change;
DROP FUNCTION attachments.lock_entity;
DROP FUNCTION attachments.find_entity;
DROP FUNCTION attachments.lock_unplanned;
DROP FUNCTION attachments.find_unplanned;
DROP FUNCTION attachments.unplanned_lookups;
DROP FUNCTION attachments.plan_lookups;
DROP FUNCTION attachments.plan_lookup;
DROP FUNCTION attachments.planned_branch;
DROP FUNCTION attachments.planned_statements;
DROP VIEW attachments.entity_lookup;
DROP FUNCTION attachments.missing_key_query;
DROP FUNCTION attachments.deleted_entity_query;
DROP FUNCTION attachments.entity_query;
DROP FUNCTION attachments.is_entity_sql;
DROP FUNCTION attachments.deleted_sql;
DROP FUNCTION attachments.show_legacy_url;
DROP FUNCTION attachments.show_label;
DROP FUNCTION attachments.index_listing;
DROP FUNCTION attachments.let_lock;
DROP FUNCTION attachments.kept_apart;
DROP FUNCTION attachments.register_entity;
DROP TYPE attachments.found_entity;
DROP TABLE attachments.entity_type;

-- 02_requests.sql
DROP FUNCTION attachments.enter_tenant;
DROP FUNCTION attachments.tenant_lock;
DROP FUNCTION attachments.cut_page;
DROP FUNCTION attachments.fail;
DROP FUNCTION attachments.ok;
DROP FUNCTION attachments.begin_recovery;
DROP FUNCTION attachments.tenant;
DROP FUNCTION attachments.claim;

-- 01_roles.sql
-- The extension stays: other tables of the database may be managed by it, and everybody may use its schema, as it gives it. Temporary tables stay a right that is granted by name:
-- whether PUBLIC had it is not known any more.
DO $$
DECLARE
    role text;
BEGIN
    FOREACH role IN ARRAY ARRAY['keepsake_worker', 'keepsake_api'] LOOP
        -- What it was granted in this database.
        EXECUTE pg_catalog.format('DROP OWNED BY %I', role);
        BEGIN
            EXECUTE pg_catalog.format('DROP ROLE %I', role);
        EXCEPTION WHEN dependent_objects_still_exist THEN
            RAISE NOTICE 'role % is still used by another database and is kept', role;
        END;
    END LOOP;
END
$$;
GRANT USAGE ON SCHEMA keepsake TO PUBLIC;
DROP FUNCTION attachments.publish;
DROP SCHEMA attachments_api;
DROP SCHEMA attachments;
