CREATE EXTENSION keepsake;
CREATE TABLE thread  (id bigint PRIMARY KEY, title text NOT NULL);
CREATE TABLE post    (id bigint PRIMARY KEY, thread_id bigint NOT NULL REFERENCES thread ON DELETE CASCADE, slug text NOT NULL);
CREATE TABLE comment (id bigint PRIMARY KEY, post_id bigint NOT NULL REFERENCES post ON DELETE CASCADE,
                      reply_to bigint REFERENCES comment ON DELETE CASCADE,
                      best_of bigint REFERENCES post ON DELETE SET NULL);
CREATE TABLE file    (id bigint PRIMARY KEY, entity_type text NOT NULL, entity_id text NOT NULL, object_key text NOT NULL UNIQUE);
CREATE TABLE pin     (id bigint PRIMARY KEY, thread_id bigint NOT NULL REFERENCES thread);
SELECT keepsake.manage('thread', '1 day'), keepsake.manage('post'), keepsake.manage('comment'), keepsake.manage('file');
CREATE UNIQUE INDEX post_slug ON post (thread_id, lower(slug)) WHERE deleted_at IS NULL;
SELECT keepsake.declare_reference('file', 'entity_type', 'entity_id', 'post', 'post');
SELECT keepsake.bind_storage('file', 'object_key');
