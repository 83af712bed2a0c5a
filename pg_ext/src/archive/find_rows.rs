//! Archived rows that have a certain key.

use pgrx::{JsonB, Uuid, pg_sys};

use crate::archive::names;
use crate::model::error::Outcome;
use crate::model::sql::{Ident, Literal, join};
use crate::spi::session::{Session, first_column};

/// The columns of the archive that have a column of the primary key, in any layout, with the name that this has now. `plain`: the
/// type prints a value as JSON has it, and was the same in all layouts, or one that prints it alike.
const KEY: &str = "
    SELECT t.archive::oid AS archive, s.attname::text AS source, array_agg(DISTINCT k.archive_name::text) AS names,
           bool_and(k.type = ANY ('{int2,int4,int8,numeric,uuid,text,varchar}'::regtype[]))
           AND count(DISTINCT CASE WHEN k.type = ANY ('{int2,int4,int8}'::regtype[]) THEN 'integer' WHEN k.type = ANY ('{text,varchar}'::regtype[]) THEN 'text'
                                   ELSE format('%s %s', k.type, k.typmod) END) = 1 AS plain
    FROM keepsake.archive_table t
    JOIN pg_index i ON i.indrelid = t.relation AND i.indisprimary
    JOIN pg_attribute s ON s.attrelid = t.relation AND s.attnum = ANY (i.indkey::int2[])
    JOIN keepsake.archive_column k ON k.archive = t.archive AND k.source_attnum = s.attnum
    JOIN pg_attribute a ON a.attrelid = k.archive AND a.attname = k.archive_name AND NOT a.attisdropped
    WHERE t.relation = $1 GROUP BY t.archive, s.attname, s.attnum ORDER BY s.attnum";

/// Those of the deletions, of all when `None`, that have an archived row of `table` with one of these keys, which are JSON objects.
/// A row whose key cannot be told counts as having it. No operator and no cast of a type is run, only what prints it.
pub fn with_key(
    session: &mut Session<'_, '_>,
    source: pg_sys::Oid,
    keys: Vec<JsonB>,
    deletions: Option<&[Uuid]>,
) -> Outcome<Vec<Uuid>> {
    let mut archive = None;
    let mut terms = Vec::new();
    for row in session.registry_now(KEY, &[source.into()])? {
        archive = row.get_by_name::<pg_sys::Oid, _>("archive")?;
        let text =
            |name: &str| -> Outcome<String> { Ok(row.get_by_name(name)?.unwrap_or_default()) };
        let names: Vec<String> = row.get_by_name("names")?.unwrap_or_default();
        if row.get_by_name("plain")?.unwrap_or(false) {
            let values = names.into_iter().map(|name| {
                let name = Ident(name);
                format!(" WHEN t.{name} IS NOT NULL THEN format('%s', t.{name})")
            });
            let value = format!("CASE{} END", join(values, ""));
            terms.push(format!(
                "({value} IS NULL OR {value} = (h.key ->> {member}) OR h.key -> {member} IS NULL)",
                member = Literal(&text("source")?)
            ));
        }
    }
    let Some(archive) = archive else {
        return Ok(Vec::new());
    };
    terms.push("true".into());
    let sql = format!(
        "SELECT DISTINCT t.keepsake_deletion FROM {} AS t
         WHERE ($2 IS NULL OR t.keepsake_deletion = ANY ($2)) AND EXISTS (SELECT FROM unnest($1) AS h (key) WHERE {})",
        names::name_of(session, archive)?,
        join(terms, " AND "),
    );
    let deletions = deletions.map(<[Uuid]>::to_vec);
    first_column(session.registry(&sql, &[keys.into(), deletions.into()])?)
}
