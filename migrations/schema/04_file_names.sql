-- The words of a file name, as the search finds them. The column attachments.attachment.search holds the terms of each name.

-- The words of a folded name, without the marks of accents.
CREATE FUNCTION attachments.search_words(folded text) RETURNS SETOF text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY
    SELECT word
    FROM regexp_split_to_table(
        regexp_replace(normalize(folded, NFKD), '[\u0300-\u036f]', '', 'g') COLLATE "C",
        -- Whatever is no letter, digit or mark in ASCII, Latin-1 and the blocks of punctuation.
        '[\u0001-\u002f\u003a-\u0040\u005b-\u0060\u007b-\u00bf\u2000-\u206f\u3000-\u303f]+') AS word
    WHERE word <> '';
END
$$;

-- The trigrams of a word, from its beginning.
CREATE FUNCTION attachments.search_terms(tenant text, word text) RETURNS text[]
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    -- The tenant's mark keeps its terms apart in the index; that a row is the tenant's is asked for besides.
    mark text := left(md5(tenant), 6);
BEGIN
    RETURN (
        SELECT array_agg(mark || substr('  ' || word, place, 3) ORDER BY place)
        FROM generate_series(1, char_length(word)) AS place);
END
$$;

-- All terms of a file name: what the index holds.
CREATE FUNCTION attachments.name_terms(tenant text, file_name text) RETURNS text[]
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (
        SELECT coalesce(array_agg(DISTINCT term), '{}')
        FROM attachments.search_words(keepsake.filename_comparison_key(file_name)) AS word,
             unnest(attachments.search_terms(tenant, word)) AS term);
END
$$;

-- How many of the others are among the terms.
CREATE FUNCTION attachments.shared_terms(terms text[], others text[]) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE COST 10 SET search_path = pg_catalog, pg_temp AS $$
    SELECT count(*) FROM unnest(others) AS term WHERE term = ANY (terms)
$$;

-- What a name must have of one word that is searched for: a word that begins with it; of six letters or more, a word that comes
-- near enough for one typing error. A number is never nearly right.
CREATE FUNCTION attachments.word_condition(tenant text, word text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN n < 6 OR word ~ '[0-9]' THEN format('a.search @> %L::text[]', terms)
           -- With at most three missing, one of any four is there: that much the index finds.
           ELSE format('a.search && %L::text[] AND a.search && %L::text[] AND attachments.shared_terms(a.search, %L::text[]) >= %s',
                       terms[:4], terms[n - 3:], terms, n - 3)
           END
    FROM (SELECT t AS terms, cardinality(t) AS n FROM attachments.search_terms(tenant, word) AS t) AS of_word
$$;
