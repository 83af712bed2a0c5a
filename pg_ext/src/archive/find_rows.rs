//! Archived rows that have a certain key.

use pgrx::{JsonB, Uuid, pg_sys};

use crate::archive::table;
use crate::model::error::Outcome;
use crate::model::sql::{Ident, Literal, join};
use crate::spi::session::{Session, first_column};

/// The columns of the archive that have the primary key, with the names of the source's columns. `plain`: the type prints a value
/// as JSON has it.
const KEY: &str = "
    SELECT k.archive::oid AS archive, k.source_name::text AS source, a.attname::text AS name,
           k.type = ANY ('{int2,int4,int8,numeric,uuid,text,varchar}'::regtype[]) AS plain
    FROM keepsake.archive_table t
    JOIN keepsake.archive_column k ON k.archive = t.archive
        AND k.layout = (SELECT max(layout) FROM keepsake.archive_column WHERE archive = t.archive)
    JOIN pg_attribute a ON a.attrelid = k.archive AND a.attnum = k.archive_attnum AND NOT a.attisdropped
    JOIN pg_index i ON i.indrelid = t.relation AND i.indisprimary AND k.source_attnum = ANY (i.indkey::int2[])
    WHERE t.relation = $1 ORDER BY k.source_attnum";

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
        let (member, column) = (text("source")?, Ident(text("name")?));
        if row.get_by_name("plain")?.unwrap_or(false) {
            terms.push(format!(
                "(t.{column} IS NULL OR format('%s', t.{column}) = (h.key ->> {member}) OR h.key -> {member} IS NULL)",
                member = Literal(&member)
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
        table::name_of(session, archive)?,
        join(terms, " AND "),
    );
    let deletions = deletions.map(<[Uuid]>::to_vec);
    first_column(session.registry(&sql, &[keys.into(), deletions.into()])?)
}
