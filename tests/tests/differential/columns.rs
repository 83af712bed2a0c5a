//! Columns of every kind that a table may have besides those that the statements use.

/// A column, and SQL values to write there; one without values is generated.
#[derive(Debug)]
pub struct Column {
    pub name: &'static str,
    pub definition: &'static str,
    pub values: &'static [&'static str],
    /// The first release that has it.
    pub since: u16,
}

const fn column(
    name: &'static str,
    definition: &'static str,
    values: &'static [&'static str],
) -> Column {
    Column {
        name,
        definition,
        values,
        since: 0,
    }
}

/// The types that the columns below need.
pub const TYPES: &str = "
    CREATE TYPE grade AS ENUM ('low', 'middle', 'high');
    CREATE TYPE pair AS (a int, b text);
    CREATE DOMAIN code AS text CHECK (VALUE <> '');
    CREATE DOMAIN codes AS text[] CHECK (array_length(VALUE, 1) < 9);";

pub const COLUMNS: [Column; 21] = [
    column(
        "arr",
        "int[]",
        &["'{1,2}'", "'{}'", "NULL", "'[2:3]={7,8}'"],
    ),
    column("doc", "jsonb", &["'{\"a\": [1, null]}'", "'[]'", "NULL"]),
    column(
        "big",
        "text",
        &[
            "repeat('x', 9000)",
            "(SELECT string_agg(md5(i::text), '') FROM generate_series(1, 300) AS i)",
            "''",
            "NULL",
        ],
    ),
    column(
        "num",
        "numeric",
        &["'NaN'", "1.10", "-0.000", "1e30", "'-Infinity'", "NULL"],
    ),
    column(
        "exact",
        "numeric(9, 3) NOT NULL DEFAULT 1.5",
        &["2", "'NaN'", "DEFAULT"],
    ),
    column("word", "code", &["'a'", "'bb'", "NULL"]),
    column("words", "codes", &["'{a,b}'", "NULL"]),
    column(
        "span",
        "int4range",
        &["'[1,3)'", "'empty'", "NULL", "'(,)'"],
    ),
    column(
        "at",
        "timestamptz(3)",
        &["'2020-01-01 12:00:00.1234+00'", "'infinity'", "NULL"],
    ),
    column(
        "mark",
        "grade DEFAULT 'middle'",
        &["'low'", "'high'", "NULL", "DEFAULT"],
    ),
    column(
        "couple",
        "pair",
        &["ROW(1, 'x')", "ROW(NULL, NULL)", "NULL"],
    ),
    column(
        "f",
        "float8",
        &["'NaN'", "'-0'", "0.1", "'Infinity'", "5e-324"],
    ),
    column("raw", "bytea", &["'\\x00ff'", "''", "NULL"]),
    column("chr", "char(5) COLLATE \"C\"", &["'a'", "'a  '", "NULL"]),
    column("ip", "inet", &["'10.0.0.1/8'", "NULL"]),
    column("bits", "varbit", &["B'101'", "B''"]),
    column("lapse", "interval", &["'1 mon -1 day'", "'0'", "NULL"]),
    column(
        "id2",
        "uuid",
        &["'00000000-0000-4000-8000-00000000000a'", "NULL"],
    ),
    column("twice", "int GENERATED ALWAYS AS (n * 2) STORED", &[]),
    column(
        "shout",
        "text GENERATED ALWAYS AS (upper(label)) STORED",
        &[],
    ),
    Column {
        name: "seen",
        definition: "int GENERATED ALWAYS AS (n + 1) VIRTUAL",
        values: &[],
        since: 18,
    },
];
