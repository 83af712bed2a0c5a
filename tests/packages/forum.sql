-- The entities of tests/packages/story.py.
CREATE TABLE post (id bigint PRIMARY KEY, tenant text NOT NULL, title text NOT NULL);
ALTER TABLE post ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON post USING (tenant = attachments.tenant()) WITH CHECK (tenant = attachments.tenant());
INSERT INTO post VALUES (1, 'acme', 'Holiday'), (2, 'acme', 'Home again');
SELECT keepsake.manage('post', keep => 'archive', cascade => true);
SELECT attachments.register_entity('post', 'public.post', 'tenant', label_column => 'title');
