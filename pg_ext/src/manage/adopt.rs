//! `manage(…, adopt => …)`: rows that something else has soft-deleted become deletions. What is asked for, and which rows
//! those are; `adopt_in_place` and `adopt_archived` make the deletions.
//!
//! The conditions are the caller's text. They stand only in queries that read, as the owner of the table, one statement each.

use pgrx::datum::DatumWithOid;
use pgrx::{Uuid, pg_sys};
use serde_json::Value;

use keepsake_shared::Sha256Digest;

use crate::model::error::{Failure, Outcome};
use crate::model::reference::Reference;
use crate::model::row_id::RowId;
use crate::model::sql::{Ident, Literal, join};
use crate::model::table::Table;
use crate::spi::session::{Session, first_cell};

/// How many rows are taken up at a time.
pub const WINDOW: i64 = 10_000;

/// What `manage()` is told of rows that are soft-deleted already.
#[derive(Clone, Copy, Debug)]
pub struct Adopt<'a> {
    /// The condition that a row is deleted.
    pub condition: &'a str,
    /// When it was.
    pub time: Option<&'a str>,
    /// Who deleted it.
    pub actor: Option<&'a str>,
    /// Whose it is.
    pub tenant: Option<&'a str>,
    /// What rows have in common that were deleted together.
    pub group: Option<&'a str>,
    /// What columns have in a live row.
    pub live: Option<&'a Value>,
}

impl<'a> Adopt<'a> {
    /// What is asked for; `None` if nothing is.
    pub fn of(condition: Option<&'a str>, rest: Self) -> Outcome<Option<Self>> {
        match condition {
            Some(condition) => Ok(Some(Self { condition, ..rest })),
            None if rest.says_more() => Err(Failure::BadArgument {
                what: "adopt_time, adopt_actor, adopt_tenant, adopt_group and adopt_live say more of adopt".into(),
                fix: "Give adopt the condition that a row is deleted, such as 'deleted_at IS NOT NULL'.".into(),
            }),
            None => Ok(None),
        }
    }

    fn says_more(&self) -> bool {
        [self.time, self.actor, self.tenant, self.group]
            .iter()
            .any(Option::is_some)
            || self.live.is_some()
    }

    /// The columns that a live row has other values in, with those. Without `adopt_live` they follow from a condition that is
    /// `column IS NOT NULL`, `column` or `NOT column`.
    pub fn live_values(&self, table: &Table) -> Outcome<Vec<(Ident, Option<String>)>> {
        let Some(live) = self.live else {
            let implied =
                implied(self.condition).filter(|(column, _)| table.columns.contains(column));
            return Ok(implied.into_iter().collect());
        };
        let wrong = |what: String| {
            Failure::BadArgument {
            what,
            fix: "Give a JSON object with a value for each column, such as '{\"is_deleted\": false}'.".into(),
        }
        };
        let Value::Object(live) = live else {
            return Err(wrong("adopt_live is not a JSON object".into()));
        };
        let column = |(name, value): (&String, &Value)| {
            let column = Ident(name.clone());
            if !table.columns.contains(&column) {
                return Err(wrong(format!(
                    "adopt_live names {column}, which is no column of {}",
                    table.shown
                )));
            }
            Ok((
                column,
                match value {
                    Value::Null => None,
                    Value::String(text) => Some(text.clone()),
                    other => Some(other.to_string()),
                },
            ))
        };
        live.iter().map(column).collect()
    }
}

/// Which column a simple condition looks at, and what a live row has there.
fn implied(condition: &str) -> Option<(Ident, Option<String>)> {
    let (column, rest) = identifier(condition.trim())?;
    let words: Vec<String> = rest.split_whitespace().map(str::to_lowercase).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match (column.0.as_str(), words.as_slice()) {
        (_, ["is", "not", "null"]) => Some((column, None)),
        ("not", _) => match identifier(rest.trim())? {
            (column, "") => Some((column, Some("true".into()))),
            _ => None,
        },
        (_, []) => Some((column, Some("false".into()))),
        _ => None,
    }
}

/// The identifier that a text begins with, and the rest.
fn identifier(text: &str) -> Option<(Ident, &str)> {
    if let Some(quoted) = text.strip_prefix('"') {
        let (name, rest) = quoted.split_once('"')?;
        return (!name.is_empty() && !rest.starts_with('"'))
            .then(|| (Ident(name.to_owned()), rest));
    }
    let is_part = |letter: char| letter.is_alphanumeric() || letter == '_' || letter == '$';
    let end = text.find(|letter| !is_part(letter)).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let begins = name.starts_with(|first: char| first.is_alphabetic() || first == '_');
    begins.then(|| (Ident(name.to_lowercase()), rest))
}

/// A row that is to be adopted.
#[derive(Debug)]
pub struct Row {
    /// Where it is.
    pub place: RowId,
    /// When it was deleted.
    pub time: String,
    /// Who deleted it.
    pub actor: Option<String>,
    /// Whose it is.
    pub tenant: Option<String>,
    /// What it has in common with the rows that were deleted with it.
    pub group: Option<String>,
    /// The deletion of its parent, if that was deleted with it.
    pub parents: Option<Uuid>,
    /// Its key, a JSON object; `None` where the table has none.
    pub key: Option<String>,
    /// The topmost row of the same table that it was deleted with: itself, if there is none above.
    pub top: RowId,
}

impl Row {
    /// Reads a row of [`Reading::sql`].
    pub fn read(row: &pgrx::spi::SpiHeapTupleData<'_>) -> Outcome<Option<Self>> {
        let (Some(place), Some(top)) = (RowId::read(row, 1)?, RowId::read(row, 9)?) else {
            return Ok(None);
        };
        Ok(Some(Self {
            place,
            time: row.get(3)?.unwrap_or_default(),
            actor: row.get(4)?,
            tenant: row.get(5)?,
            group: row.get(6)?,
            parents: row.get(7)?,
            key: row.get(8)?,
            top,
        }))
    }
}

/// The query for the rows to be adopted.
pub struct Reading<'a> {
    /// The table.
    pub table: &'a Table,
    /// What is asked for.
    pub adopt: Adopt<'a>,
    /// What else must hold for row `t`; $1 are the ids of deletions that are none.
    pub unless: &'static str,
    /// What rows have in common that were deleted together, where the caller does not say.
    pub known_group: Option<&'static str>,
    /// A query for the deletion of a parent that row `m` was deleted with.
    pub parents: Vec<String>,
    /// References of the table to itself.
    pub own: Vec<&'a Reference>,
}

/// The types of a time without a time zone.
const WITHOUT_ZONE: [pg_sys::Oid; 2] = [pg_sys::TIMESTAMPOID, pg_sys::DATEOID];

impl Reading<'_> {
    /// The query. Its columns are those that [`Row::read`] reads.
    pub fn sql(&self, session: &mut Session<'_, '_>) -> Outcome<String> {
        let marked = self.marked(session)?;
        let parents = if self.parents.is_empty() {
            "NULL::pg_catalog.uuid".to_owned()
        } else {
            format!("COALESCE({})", join(&self.parents, ", "))
        };
        // A deletion is written when its last row has been read.
        let order = match self.adopt.group {
            Some(_) => "keepsake_group, keepsake_tenant, keepsake_time",
            None => "keepsake_time",
        };
        let shown = format!(
            "m.keepsake_part, m.keepsake_place, m.keepsake_time::pg_catalog.text, m.keepsake_actor, m.keepsake_tenant,
             m.keepsake_group, {parents}, m.keepsake_key"
        );
        if self.own.is_empty() || self.adopt.group.is_some() {
            return Ok(format!(
                "WITH marked AS ({marked})
                 SELECT {shown}, m.keepsake_part, m.keepsake_place FROM marked AS m ORDER BY {order}"
            ));
        }
        let joins = |c: &str, p: &str| {
            let joins = self.own.iter().map(|reference| reference.joins(c, p));
            format!("({})", join(joins, " OR "))
        };
        Ok(format!(
            "WITH RECURSIVE marked AS MATERIALIZED ({marked}),
             beneath (part, place, top_part, top_place, parents) AS (
                 SELECT m.keepsake_part, m.keepsake_place, m.keepsake_part, m.keepsake_place, {parents} FROM marked AS m
                 WHERE NOT EXISTS (SELECT FROM marked AS p WHERE {above} AND p.keepsake_time OPERATOR(pg_catalog.=) m.keepsake_time AND p.keepsake_tenant IS NOT DISTINCT FROM m.keepsake_tenant
                       AND (p.keepsake_part OPERATOR(pg_catalog.<>) m.keepsake_part OR p.keepsake_place OPERATOR(pg_catalog.<>) m.keepsake_place))
                 UNION
                 SELECT c.keepsake_part, c.keepsake_place, b.top_part, b.top_place, b.parents
                 FROM beneath AS b
                 JOIN marked AS p ON p.keepsake_part OPERATOR(pg_catalog.=) b.part AND p.keepsake_place OPERATOR(pg_catalog.=) b.place
                 JOIN marked AS c ON {below} AND c.keepsake_time OPERATOR(pg_catalog.=) p.keepsake_time AND c.keepsake_tenant IS NOT DISTINCT FROM p.keepsake_tenant),
             topmost AS (SELECT DISTINCT ON (part, place) * FROM beneath ORDER BY part, place, top_part, top_place)
             SELECT m.keepsake_part, m.keepsake_place, m.keepsake_time::pg_catalog.text, m.keepsake_actor, m.keepsake_tenant,
                    m.keepsake_group, t.parents, m.keepsake_key,
                    COALESCE(t.top_part, m.keepsake_part), COALESCE(t.top_place, m.keepsake_place)
             FROM marked AS m LEFT JOIN topmost AS t
                  ON t.part OPERATOR(pg_catalog.=) m.keepsake_part AND t.place OPERATOR(pg_catalog.=) m.keepsake_place
             ORDER BY {order}, 9, 10",
            above = joins("m", "p"),
            below = joins("c", "p"),
        ))
    }

    /// The rows, with what is asked of each, and with the columns of references.
    fn marked(&self, session: &mut Session<'_, '_>) -> Outcome<String> {
        let table = self.table;
        let text = |given: Option<&str>| match given {
            Some(given) => format!("CAST(({given}\n) AS pg_catalog.text)"),
            None => "NULL::pg_catalog.text".into(),
        };
        let key = if table.key.is_empty() {
            "NULL::pg_catalog.text".into()
        } else {
            format!("({})::pg_catalog.text", table.key_json("t"))
        };
        let columns = table.columns.iter().map(|column| format!(", t.{column}"));
        Ok(format!(
            "SELECT t.tableoid AS keepsake_part, t.ctid AS keepsake_place, {time} AS keepsake_time, {actor} AS keepsake_actor,
                    {tenant} AS keepsake_tenant, {group} AS keepsake_group, {key} AS keepsake_key{columns}
             FROM {rows} AS t WHERE ({condition}\n){unless}",
            time = self.time(session)?,
            actor = text(self.adopt.actor),
            tenant = text(self.adopt.tenant),
            group = text(self.adopt.group.or(self.known_group)),
            columns = join(columns, ""),
            rows = table.rows(),
            condition = self.adopt.condition,
            unless = self.unless,
        ))
    }

    /// When a row was deleted: now, where it does not say. What has no time zone is of UTC, as applications write it.
    fn time(&self, session: &mut Session<'_, '_>) -> Outcome<String> {
        let own = self
            .table
            .columns
            .iter()
            .find(|column| column.0 == "deleted_at");
        let given = match (self.adopt.time, own) {
            (Some(given), _) => given.to_owned(),
            (None, Some(own)) => format!("t.{own}"),
            (None, None) => return Ok("pg_catalog.now()".into()),
        };
        let sql = format!(
            "SELECT pg_catalog.pg_typeof(({given}\n))::pg_catalog.oid FROM {} AS t LIMIT 1",
            self.table.rows()
        );
        let found: Option<pg_sys::Oid> =
            first_cell(session.as_owner_in_schema(self.table, &sql, &[])?)?;
        let zone = match found {
            Some(found) if WITHOUT_ZONE.contains(&found) => {
                "::pg_catalog.timestamp AT TIME ZONE 'UTC'"
            }
            _ => "::pg_catalog.timestamptz",
        };
        Ok(format!(
            "CASE WHEN pg_catalog.isfinite((({given}\n){zone})) THEN LEAST((({given}\n){zone}), pg_catalog.now()) ELSE pg_catalog.now() END"
        ))
    }

    /// Refuses if a row would still count as deleted once it is restored.
    pub fn check_live(
        &self,
        session: &mut Session<'_, '_>,
        live: &[(Ident, Option<String>)],
        args: &[DatumWithOid<'_>],
    ) -> Outcome<()> {
        let columns = self.table.columns.iter().map(|column| {
            let value = live.iter().find(|(name, _)| name == column);
            match value {
                // A constant of the column's own type.
                Some((_, value)) => format!(
                    "CASE WHEN true THEN {} ELSE t.{column} END AS {column}",
                    literal(value.as_deref())
                ),
                None => format!("t.{column}"),
            }
        });
        let sql = format!(
            "SELECT 1 FROM (SELECT {columns} FROM {rows} AS t WHERE ({condition}\n){unless} OFFSET 0) AS t WHERE ({condition}\n) LIMIT 1",
            columns = join(columns, ", "),
            rows = self.table.rows(),
            condition = self.adopt.condition,
            unless = self.unless,
        );
        if session
            .as_owner_in_schema(self.table, &sql, args)?
            .is_empty()
        {
            return Ok(());
        }
        Err(Failure::BadArgument {
            what: "rows would still count as deleted by adopt once they are restored".into(),
            fix: "Give adopt_live the values that these columns have in a live row, such as adopt_live => '{\"status\": \"open\"}'.".into(),
        })
    }
}

/// A constant, which PostgreSQL reads as the type that its place asks for.
fn literal(value: Option<&str>) -> String {
    value.map_or_else(|| "NULL".into(), |value| Literal(value).to_string())
}

/// The assignments of live values.
pub fn assignments(live: &[(Ident, Option<String>)]) -> String {
    let each = live
        .iter()
        .map(|(column, value)| format!(", {column} = {}", literal(value.as_deref())));
    join(each, "")
}

/// An id that follows from what it is of.
pub fn id_of(parts: &[&str]) -> Uuid {
    let digest = Sha256Digest::of(parts.join("\0").as_bytes());
    let mut id = [0; 16];
    id.copy_from_slice(&digest.as_bytes()[..16]);
    Uuid::from_bytes(
        uuid::Builder::from_custom_bytes(id)
            .into_uuid()
            .into_bytes(),
    )
}

/// The id of the group of a row that was deleted with others: by their common value and tenant, or at the same time. Rows
/// of other owners are never in it.
pub fn group_id(table: &Table, row: &Row) -> Uuid {
    let owner = table.owner.to_u32().to_string();
    match &row.group {
        // No text has a NUL, so that no group reads like another one with a tenant.
        Some(group) => match &row.tenant {
            Some(tenant) => id_of(&["group", &owner, group, tenant]),
            None => id_of(&["group", &owner, group]),
        },
        None => id_of(&["time", &owner, &row.time]),
    }
}

/// What the registry is to learn, as arguments of one statement.
pub fn column<'a, T: pgrx::IntoDatum>(
    rows: &'a [Row],
    value: impl Fn(&'a Row) -> T,
) -> DatumWithOid<'static>
where
    Vec<T>: Into<DatumWithOid<'static>>,
{
    rows.iter().map(value).collect::<Vec<T>>().into()
}
