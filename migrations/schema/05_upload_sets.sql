-- Upload sets: 1..N files that become visible together or not at all.
--
--     declared                all files there, no scan required
--    ──────────▶ pending ─────────────────────────────────────────▶ completed
--                  │ │ │                                                ▲
--                  │ │ │  all files there, a scan is required           │ every file is clean
--                  │ │ └─────────────────────────▶ scanning ────────────┘
--                  │ │                                │
--                  │ │  a file is not as declared     │ a file is infected, or its name was taken meanwhile
--                  │ ├─────────────▶ rejected ◀───────┘
--                  │ │  its client gives it up
--                  │ ├─────────────▶ aborted
--                  │ │  its time is over (the sweep)
--                  │ └─────────────▶ expired
--                  └ a set that is not pending never becomes pending again
--
-- The attachments of a set follow it: see 06_attachments.sql. The functions that move a set: 07_uploads.sql, 11_scans.sql.

CREATE TABLE attachments.upload_set (
    id          uuid PRIMARY KEY DEFAULT keepsake.uuid_v7(),
    tenant_id   text NOT NULL,
    entity_type text NOT NULL REFERENCES attachments.entity_type (name),
    entity_id   text NOT NULL,
    file_count  integer NOT NULL CHECK (file_count > 0),
    created_by  text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    expires_at  timestamptz NOT NULL,
    state       text NOT NULL DEFAULT 'pending'
                CHECK (state IN ('pending', 'scanning', 'completed', 'rejected', 'aborted', 'expired')),
    settled_at  timestamptz,
    -- What was declared, kept when the rows of a failed set are gone.
    files       jsonb,
    -- Why it was rejected: per attachment, the problems that were found.
    report      jsonb,
    next_look_at timestamptz,
    -- The attachment of which its one file becomes a new version.
    version_of  uuid,
    one_request boolean NOT NULL DEFAULT false,
    CONSTRAINT settled_once CHECK ((state = 'pending') = (settled_at IS NULL))
);
CREATE INDEX upload_set_pending ON attachments.upload_set (expires_at) WHERE state = 'pending';
COMMENT ON COLUMN attachments.upload_set.next_look_at IS
    'When the schedule checks again whether the files of an open upload have arrived. NULL: not checked yet.';
COMMENT ON COLUMN attachments.upload_set.one_request IS
    'Whether one request declares, stores and completes it: nobody else completes it, and one that was broken off expires.';

-- Upload sets are under the policies of the entity's table, as attachments are: who may not see the entity neither sees,
-- completes nor gives up what is being attached to it.
ALTER TABLE attachments.upload_set ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON attachments.upload_set
    USING (tenant_id = attachments.tenant() AND (attachments.find_entity(entity_type, entity_id)).is_there)
    WITH CHECK (tenant_id = attachments.tenant());
GRANT SELECT, INSERT, UPDATE ON attachments.upload_set TO keepsake_api;
