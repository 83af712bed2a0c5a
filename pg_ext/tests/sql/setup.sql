-- A small application: threads → posts → comments, and likes that hang on a post and on a member.
CREATE EXTENSION keepsake;

CREATE TABLE thread (id bigint PRIMARY KEY, title text);
CREATE TABLE post (id bigint PRIMARY KEY, thread_id bigint NOT NULL REFERENCES thread ON DELETE CASCADE, slug text);
CREATE TABLE comment (id int PRIMARY KEY, post_id bigint REFERENCES post ON DELETE CASCADE,
                      reply_to int REFERENCES comment ON DELETE CASCADE);
CREATE TABLE member (id uuid PRIMARY KEY, email text);
CREATE TABLE likes (post_id bigint REFERENCES post ON DELETE CASCADE, member_id uuid REFERENCES member ON DELETE CASCADE,
                    PRIMARY KEY (post_id, member_id));
CREATE INDEX ON post (thread_id);
CREATE INDEX ON comment (post_id);
CREATE INDEX ON comment (reply_to);
CREATE INDEX ON likes (member_id);

SELECT keepsake.manage('thread'), keepsake.manage('post'), keepsake.manage('comment'),
       keepsake.manage('member'), keepsake.manage('likes');
CREATE UNIQUE INDEX post_slug ON post (thread_id, lower(slug)) WHERE deleted_at IS NULL;

-- What is live, in one line a table.
CREATE VIEW live AS
    SELECT 'thread' AS tbl, string_agg(id::text, ' ' ORDER BY id) AS ids FROM thread WHERE deleted_at IS NULL
    UNION ALL SELECT 'post', string_agg(id::text, ' ' ORDER BY id) FROM post WHERE deleted_at IS NULL
    UNION ALL SELECT 'comment', string_agg(id::text, ' ' ORDER BY id) FROM comment WHERE deleted_at IS NULL
    UNION ALL SELECT 'likes', string_agg(post_id || '/' || right(member_id::text, 1), ' ' ORDER BY post_id, member_id)
              FROM likes WHERE deleted_at IS NULL
    UNION ALL SELECT 'member', string_agg(right(id::text, 1), ' ' ORDER BY id) FROM member WHERE deleted_at IS NULL;

CREATE PROCEDURE fill() LANGUAGE sql AS $$
    INSERT INTO thread VALUES (1, 'one'), (2, 'two');
    INSERT INTO post VALUES (10, 1, 'a'), (11, 1, 'b'), (20, 2, 'a');
    INSERT INTO comment VALUES (100, 10), (101, 10), (200, 20);
    INSERT INTO comment VALUES (102, 10, 101), (103, 10, 102);
    INSERT INTO member VALUES ('00000000-0000-0000-0000-000000000001', 'm1'), ('00000000-0000-0000-0000-000000000002', 'm2');
    INSERT INTO likes SELECT p.id, m.id FROM post p, member m WHERE p.thread_id = 1;
$$;
