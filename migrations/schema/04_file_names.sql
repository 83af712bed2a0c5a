-- What a search asks of a file name. The column attachments.attachment.search holds the terms of each name that can be found:
-- keepsake.filename_terms().

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
    FROM (SELECT t AS terms, cardinality(t) AS n FROM keepsake.search_terms(tenant, word) AS t) AS of_word
$$;
