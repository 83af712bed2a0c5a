-- What the README shows: a deletion takes the rows below, and a restore brings back both. Fails if it does not.
CREATE EXTENSION IF NOT EXISTS keepsake;
CREATE TABLE thread (id bigint PRIMARY KEY, title text);
CREATE TABLE post (id bigint PRIMARY KEY, thread_id bigint NOT NULL REFERENCES thread ON DELETE CASCADE, body text);
SELECT keepsake.manage('thread', keep => 'archive', cascade => true);
INSERT INTO thread VALUES (1, 'Holiday');
INSERT INTO post VALUES (1, 1, 'The beach, before the rain.');
DELETE FROM thread WHERE id = 1;
DO $$ BEGIN
    ASSERT NOT EXISTS (SELECT FROM post), 'the post is still there';
END $$;
SELECT keepsake.restore(id) FROM keepsake.deletion;
DO $$ BEGIN
    ASSERT (SELECT body FROM post) = 'The beach, before the rain.', 'the post is not back';
END $$;
