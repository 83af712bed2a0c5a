//! What stands in the way of archived rows, found before anything is written: each row is judged in the shape that it
//! would have.

use std::collections::{BTreeSet, HashMap, HashSet};

use pgrx::spi::SpiHeapTupleData;
use pgrx::{JsonB, PgSqlErrorCode, Uuid, pg_sys};
use serde_json::{Value, json};

use crate::access::privileges;
use crate::model::conflict::Conflict;
use crate::model::error::Outcome;
use crate::model::found_conflict::{Found, later_of_each};
use crate::model::row_id::RowId;
use crate::model::sql::{Literal, join};
use crate::postgres::subtransaction::{Caught, attempt_unless};
use crate::restore_archived::archived_rows::{Archived, Rows, field};
use crate::restore_archived::foreign_keys::{ForeignKey, Keep};
use crate::restore_archived::rights;
use crate::restore_archived::row_choice::Set;
use crate::spi::session::Session;

const UNIQUE: &str = include_str!("read_unique.sql");
const CHECKS: &str = include_str!("read_checks.sql");

/// A row of the set whose parent is not live, nor in the set.
#[derive(Debug)]
pub struct Orphan {
    /// Its table and its place in the archive.
    pub row: (pg_sys::Oid, RowId),
    /// Which foreign key says so, by its place among the keys.
    pub key: usize,
    /// The deletion that has the parent, if any has.
    pub holder: Option<Uuid>,
    /// The parent's place in its archive, where it is in one.
    pub parent: Option<(pg_sys::Oid, RowId)>,
    /// The parent's key.
    pub parent_key: Value,
}

/// Rows of which the set has a later version.
pub fn superseded(
    session: &mut Session<'_, '_>,
    one: &Archived,
    rows: &Rows,
) -> Outcome<Vec<RowId>> {
    if one.table.key.is_empty() {
        return Ok(Vec::new());
    }
    let sql = format!(
        "SELECT v.keepsake_relation, v.keepsake_ctid FROM (
             SELECT s.keepsake_relation, s.keepsake_ctid, pg_catalog.row_number() OVER (
                 PARTITION BY {key} ORDER BY s.keepsake_deletion DESC, s.keepsake_seq DESC) AS keepsake_version
             FROM ({source}) AS s) AS v
         WHERE v.keepsake_version OPERATOR(pg_catalog.>) 1",
        key = one.table.key_columns("s"),
        source = one.source(rows),
    );
    RowId::read_all(session.over_archives(&one.table, &sql, &[])?)
}

/// The rows of a table that lack a parent by one foreign key.
pub fn orphans(
    session: &mut Session<'_, '_>,
    tables: &[Archived],
    parents: &[Archived],
    (number, key): (usize, &ForeignKey),
    set: &Set,
) -> Outcome<Vec<Orphan>> {
    let Some(child) = tables
        .iter()
        .find(|one| one.table.oid == key.reference.child)
    else {
        return Ok(Vec::new());
    };
    let rows = set.rows(child.table.oid);
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let archived = parents.iter().find(|one| one.table.oid == key.parent.oid);
    let inside = archived.map(|one| one.source(&set.rows(one.table.oid)));
    let columns: Vec<String> = key
        .reference
        .child_columns()
        .iter()
        .map(|column| format!("s.{column}"))
        .collect();
    let not_inside = if inside.is_some() {
        format!(
            " AND NOT EXISTS (SELECT FROM keepsake_inside AS p WHERE {})",
            key.reference.joins("c", "p")
        )
    } else {
        String::new()
    };
    let parent_columns = |alias: &str| {
        join(
            key.reference
                .pairs
                .iter()
                .map(|pair| format!("{alias}.{}", pair.parent)),
            ", ",
        )
    };
    let mut with = format!(
        "WITH keepsake_rows AS MATERIALIZED (
             SELECT s.keepsake_relation, s.keepsake_ctid, {columns} FROM ({source}) AS s WHERE {set})",
        columns = columns.join(", "),
        source = child.source(&rows),
        set = key.reference.is_set("s"),
    );
    if let Some(inside) = inside {
        with.push_str(&format!(
            ", keepsake_inside AS NOT MATERIALIZED (SELECT {} FROM ({inside}) AS s)",
            parent_columns("s")
        ));
    }
    with.push_str(&format!(
        ", keepsake_orphans AS MATERIALIZED (
             SELECT c.* FROM keepsake_rows AS c
             WHERE NOT EXISTS (SELECT FROM {live} AS p WHERE {joins} AND {is_live}){not_inside})",
        live = key.parent.rows(),
        joins = key.reference.joins("c", "p"),
        is_live = key.is_live("p"),
    ));
    let holder = match (key.keep, archived) {
        (Keep::Archive, Some(one)) => {
            with.push_str(&format!(
                ", keepsake_elsewhere AS NOT MATERIALIZED (
                     SELECT s.keepsake_relation, s.keepsake_ctid, s.keepsake_deletion, s.keepsake_seq, {key} AS keepsake_key, {columns} FROM ({source}) AS s)",
                key = one.key_json("s"),
                columns = parent_columns("s"),
                source = one.source_of_all(),
            ));
            format!(
                "LEFT JOIN LATERAL (
                     SELECT p.keepsake_deletion, p.keepsake_relation, p.keepsake_ctid, p.keepsake_key FROM keepsake_elsewhere AS p
                     WHERE {} ORDER BY p.keepsake_deletion DESC, p.keepsake_seq DESC LIMIT 1) AS h ON true",
                key.reference.joins("c", "p")
            )
        }
        (Keep::InPlace, _) => format!(
            "LEFT JOIN LATERAL (
                 SELECT p.deletion_id AS keepsake_deletion, NULL::pg_catalog.oid AS keepsake_relation, NULL::pg_catalog.tid AS keepsake_ctid,
                        NULL::pg_catalog.jsonb AS keepsake_key
                 FROM {} AS p WHERE {} LIMIT 1) AS h ON true",
            key.parent.rows(),
            key.reference.joins("c", "p")
        ),
        _ => "CROSS JOIN (SELECT NULL::pg_catalog.uuid AS keepsake_deletion, NULL::pg_catalog.oid AS keepsake_relation,
                                 NULL::pg_catalog.tid AS keepsake_ctid, NULL::pg_catalog.jsonb AS keepsake_key) AS h"
            .to_owned(),
    };
    let sql = format!(
        "{with} SELECT c.keepsake_relation, c.keepsake_ctid, h.keepsake_deletion, h.keepsake_relation, h.keepsake_ctid, h.keepsake_key
         FROM keepsake_orphans AS c {holder}"
    );
    let mut found = Vec::new();
    for row in session.over_archives(&key.parent, &sql, &[])? {
        let Some(place) = RowId::read(&row, 1)? else {
            continue;
        };
        found.push(Orphan {
            row: (child.table.oid, place),
            key: number,
            holder: row.get(3)?,
            parent: RowId::read(&row, 4)?.map(|parent| (key.parent.oid, parent)),
            parent_key: read_json(&row, 6)?,
        });
    }
    Ok(found)
}

/// The conflict that an orphan is.
pub fn of_orphan(orphan: &Orphan, keys: &[ForeignKey], tables: &[Archived]) -> Option<Found> {
    let key = keys.get(orphan.key)?;
    let child = tables.iter().find(|one| one.table.oid == orphan.row.0)?;
    Some(Found {
        conflict: Conflict {
            kind: if orphan.holder.is_some() {
                "parent_deleted"
            } else {
                "parent_missing"
            },
            table: child.table.shown.clone(),
            key: Value::Null,
            constraint: Some(key.reference.name.clone()),
            values: Value::Null,
            holder: orphan.parent_key.clone(),
            deletion_id: orphan.holder.map(|id| id.to_string()),
        },
        row: orphan.row,
        holder: orphan.parent,
        among_restored: false,
    })
}

/// Every other conflict of the rows of these tables.
pub fn find(session: &mut Session<'_, '_>, tables: &[Archived], set: &Set) -> Outcome<Vec<Found>> {
    let oids: Vec<pg_sys::Oid> = tables.iter().map(|one| one.table.oid).collect();
    let unique = session.registry_now(UNIQUE, &[oids.clone().into()])?;
    let checks = session.registry_now(CHECKS, &[oids.into()])?;
    let mut found = Vec::new();
    for one in tables {
        let rows = set.rows(one.table.oid);
        if rows.is_empty() {
            continue;
        }
        for column in &unique {
            if field::<pg_sys::Oid>(column, "root")? == one.table.oid {
                Place::read(column)?.search(session, one, &rows, &mut found)?;
            }
        }
        for check in &checks {
            if field::<pg_sys::Oid>(check, "relation")? == one.table.oid {
                fails(session, one, &rows, check, &mut found)?;
            }
        }
        lacks_values(session, one, &rows, &mut found)?;
    }
    Ok(found)
}

/// A unique index or an exclusion constraint: a place that one row can hold.
struct Place {
    name: String,
    exclusion: bool,
    predicate: String,
    nulls_equal: bool,
    expressions: Vec<String>,
    operators: Vec<String>,
    collations: Vec<String>,
}

impl Place {
    fn read(row: &SpiHeapTupleData<'_>) -> Outcome<Self> {
        let predicate: String = field(row, "predicate")?;
        Ok(Self {
            name: field(row, "name")?,
            exclusion: field(row, "exclusion")?,
            predicate: if predicate.is_empty() {
                "true".into()
            } else {
                predicate
            },
            nulls_equal: field(row, "nulls_equal")?,
            expressions: field(row, "expressions")?,
            operators: field(row, "operators")?,
            collations: field(row, "collations")?,
        })
    }

    fn search(
        &self,
        session: &mut Session<'_, '_>,
        one: &Archived,
        rows: &Rows,
        found: &mut Vec<Found>,
    ) -> Outcome<()> {
        let others = format!("{} {}", self.restored(one, rows), self.against_live(one));
        let others = self.look(session, one, &others)?;
        found.extend(others.into_iter().map(|mut pair| {
            pair.among_restored = false;
            pair
        }));
        let among = format!("{} {}", self.restored(one, rows), self.among_restored(one));
        let among = self.look(session, one, &among)?;
        found.extend(later_of_each(among));
        Ok(())
    }

    /// The rows that would have an entry in the index, with its columns computed.
    fn restored(&self, one: &Archived, rows: &Rows) -> String {
        let key = one.table.key.iter().zip(1..);
        let key = key.map(|(column, n)| format!(", {} AS keepsake_o{n}", column.name));
        let parts = self.expressions.iter().zip(1..);
        let parts = parts.map(|(expression, n)| format!(", ({expression}) AS keepsake_k{n}"));
        format!(
            "WITH keepsake_restored AS MATERIALIZED (
                 SELECT keepsake_relation, keepsake_ctid{key}{parts} FROM {whole} WHERE {predicate})",
            key = join(key, ""),
            parts = join(parts, ""),
            whole = one.whole(rows),
            predicate = self.predicate,
        )
    }

    fn clash(&self, left: impl Fn(usize, &str) -> String) -> String {
        let terms = self
            .expressions
            .iter()
            .zip(&self.operators)
            .zip(&self.collations)
            .zip(1..);
        let terms = terms.map(|(((expression, operator), collation), n)| {
            let left = left(n, expression);
            let equal = format!("{left}{collation} {operator} keepsake_r.keepsake_k{n}");
            if self.nulls_equal {
                format!("({equal} OR ({left} IS NULL AND keepsake_r.keepsake_k{n} IS NULL))")
            } else {
                equal
            }
        });
        join(terms, " AND ")
    }

    fn found(&self, one: &Archived, holder: &str) -> String {
        let values = self.expressions.iter().zip(1..);
        let values = values
            .map(|(expression, n)| format!("{}, keepsake_r.keepsake_k{n}", Literal(expression)));
        format!(
            "SELECT keepsake_r.keepsake_relation, keepsake_r.keepsake_ctid, {key}, pg_catalog.jsonb_build_object({values}),
                    {holder} AS keepsake_holder, keepsake_l.keepsake_relation, keepsake_l.keepsake_ctid",
            key = computed_key(one, "keepsake_r"),
            values = join(values, ", "),
        )
    }

    fn against_live(&self, one: &Archived) -> String {
        let alias = &one.table.name.name;
        format!(
            "{found} FROM keepsake_restored AS keepsake_r
             JOIN LATERAL (SELECT {key} AS keepsake_key, {alias}.tableoid AS keepsake_relation, {alias}.ctid AS keepsake_ctid
                           FROM {rows} AS {alias} WHERE ({predicate}) AND {clash}) AS keepsake_l ON true
             ORDER BY 3, keepsake_holder",
            found = self.found(one, "keepsake_l.keepsake_key"),
            key = one.key_json(&alias.to_string()),
            rows = one.table.rows(),
            predicate = self.predicate,
            clash = self.clash(|_, expression| format!("({expression})")),
        )
    }

    /// Pairs of restored rows, each from either side. Of a unique index only keys that come twice are looked at.
    fn among_restored(&self, one: &Archived) -> String {
        let candidates = if self.exclusion {
            "keepsake_restored".to_owned()
        } else {
            let parts = || self.collations.iter().zip(1..);
            let key = parts().map(|(collation, n)| format!("a.keepsake_k{n}{collation}"));
            let set = parts().map(|(_, n)| format!("a.keepsake_k{n} IS NOT NULL"));
            format!(
                "(SELECT n.* FROM (SELECT a.*, pg_catalog.count(*) OVER (PARTITION BY {key}) AS keepsake_n
                                   FROM keepsake_restored AS a WHERE {set}) AS n WHERE n.keepsake_n OPERATOR(pg_catalog.>) 1)",
                key = join(key, ", "),
                set = if self.nulls_equal { "true".into() } else { join(set, " AND ") },
            )
        };
        format!(
            "{found} FROM {candidates} AS keepsake_r JOIN {candidates} AS keepsake_l
               ON {clash} AND (keepsake_l.keepsake_ctid OPERATOR(pg_catalog.<>) keepsake_r.keepsake_ctid
                               OR keepsake_l.keepsake_relation OPERATOR(pg_catalog.<>) keepsake_r.keepsake_relation)
             ORDER BY 3, keepsake_holder",
            found = self.found(one, &computed_key(one, "keepsake_l")),
            clash = self.clash(|n, _| format!("keepsake_l.keepsake_k{n}")),
        )
    }

    fn look(
        &self,
        session: &mut Session<'_, '_>,
        one: &Archived,
        sql: &str,
    ) -> Outcome<Vec<Found>> {
        let mut found = Vec::new();
        for row in session.over_archives(&one.table, sql, &[])? {
            let Some(place) = RowId::read(&row, 1)? else {
                continue;
            };
            found.push(Found {
                conflict: Conflict {
                    kind: if self.exclusion {
                        "exclusion"
                    } else {
                        "unique"
                    },
                    table: one.table.shown.clone(),
                    key: read_json(&row, 3)?,
                    constraint: Some(self.name.clone()),
                    values: read_json(&row, 4)?,
                    holder: read_json(&row, 5)?,
                    deletion_id: None,
                },
                row: (one.table.oid, place),
                holder: RowId::read(&row, 6)?.map(|holder| (one.table.oid, holder)),
                among_restored: true,
            });
        }
        Ok(found)
    }
}

/// The key of a row whose key columns are `keepsake_o1` and so on.
fn computed_key(one: &Archived, alias: &str) -> String {
    if one.table.key.is_empty() {
        return "NULL::pg_catalog.jsonb".into();
    }
    let key = one.table.key.iter().zip(1..);
    let key = key.map(|(column, n)| format!("{}, {alias}.keepsake_o{n}", Literal(&column.name.0)));
    format!("pg_catalog.jsonb_build_object({})", join(key, ", "))
}

/// Rows that a CHECK constraint refuses, of the table or of a column's domain, or that no partition takes.
fn fails(
    session: &mut Session<'_, '_>,
    one: &Archived,
    rows: &Rows,
    check: &SpiHeapTupleData<'_>,
    found: &mut Vec<Found>,
) -> Outcome<()> {
    let (name, condition): (String, String) = (field(check, "name")?, field(check, "condition")?);
    let kind = if field::<String>(check, "kind")? == "check" {
        "check"
    } else {
        "no_partition"
    };
    let column: Option<String> = check.get_by_name("column_name")?;
    let refused = match &column {
        Some(column) => {
            let column = crate::model::sql::Ident(column.clone());
            format!(
                "(SELECT ({condition}) FROM (SELECT {column} AS value) AS keepsake_value) IS FALSE"
            )
        }
        None => format!("({condition}) IS FALSE"),
    };
    let constraint = (kind == "check").then_some(name);
    refused_rows(
        session,
        one,
        rows,
        (kind, constraint, None),
        &refused,
        found,
    )
}

/// Rows with a NULL in a column that takes none now.
fn lacks_values(
    session: &mut Session<'_, '_>,
    one: &Archived,
    rows: &Rows,
    found: &mut Vec<Found>,
) -> Outcome<()> {
    for column in one.columns.iter().filter(|column| column.not_null) {
        let refused = format!("{} IS NULL", column.name);
        let values = Some(json!({ column.name.0.as_str(): null }));
        refused_rows(
            session,
            one,
            rows,
            ("not_null", None, values),
            &refused,
            found,
        )?;
    }
    Ok(())
}

/// Rows with a value that cannot be made one of its column's type, or does not fit it: nothing else can be asked about them.
pub fn unreadable(
    session: &mut Session<'_, '_>,
    one: &Archived,
    rows: &Rows,
) -> Outcome<Vec<Found>> {
    let mut found = Vec::new();
    let mut rows = rows.clone();
    for (column, condition) in one.inconvertible() {
        for place in places(session, one, &rows, &condition)? {
            rows.remove(place);
            found.push(no_conversion(
                one,
                place,
                json!({ "column": column.name.0.as_str() }),
            ));
        }
    }
    if one.converts() && probe(session, one, &rows)?.is_some() {
        let all = places(session, one, &rows, "true")?;
        bisect(session, one, &all, &mut found)?;
    }
    Ok(found)
}

fn no_conversion(one: &Archived, place: RowId, values: Value) -> Found {
    Found {
        conflict: Conflict {
            kind: "no_conversion",
            table: one.table.shown.clone(),
            key: Value::Null,
            constraint: None,
            values,
            holder: Value::Null,
            deletion_id: None,
        },
        row: (one.table.oid, place),
        holder: None,
        among_restored: false,
    }
}

/// The rows among these for which a condition on row `a` of the archive holds.
fn places(
    session: &mut Session<'_, '_>,
    one: &Archived,
    rows: &Rows,
    condition: &str,
) -> Outcome<Vec<RowId>> {
    let selects = rows.conditions("a").into_iter().map(|among| {
        format!(
            "SELECT a.tableoid, a.ctid FROM {} AS a WHERE {among} AND {condition}",
            one.archive_name
        )
    });
    let sql = join(selects, " UNION ALL ");
    RowId::read_all(session.write_archive(&sql, &[])?)
}

/// Whether any of the rows is there.
pub fn has_rows(session: &mut Session<'_, '_>, one: &Archived, rows: &Rows) -> Outcome<bool> {
    for among in rows.conditions("a") {
        let sql = format!(
            "SELECT 1 FROM {} AS a WHERE {among} LIMIT 1",
            one.archive_name
        );
        if !session.write_archive(&sql, &[])?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Finds the rows that cannot be converted, by halves.
fn bisect(
    session: &mut Session<'_, '_>,
    one: &Archived,
    places: &[RowId],
    found: &mut Vec<Found>,
) -> Outcome<()> {
    let rows = Rows {
        also: places.iter().copied().collect(),
        ..Rows::default()
    };
    let Some(error) = probe(session, one, &rows)? else {
        return Ok(());
    };
    if let [place] = places {
        found.push(no_conversion(one, *place, json!({ "error": error })));
        return Ok(());
    }
    let (left, right) = places.split_at(places.len() / 2);
    bisect(session, one, left, found)?;
    bisect(session, one, right, found)
}

/// Converts all columns of the rows; answers with the error that this meets.
fn probe(session: &mut Session<'_, '_>, one: &Archived, rows: &Rows) -> Outcome<Option<String>> {
    let columns = one
        .stored_columns()
        .map(|column| format!("s.{}", column.name));
    let sql = format!(
        "SELECT pg_catalog.count(ROW({})) FROM ({}) AS s",
        join(columns, ", "),
        one.source(rows)
    );
    let probed = attempt_unless(
        |raised| !is_data_exception(raised.code),
        || Ok(session.over_archives(&one.table, &sql, &[])?.len()),
    );
    match probed {
        Ok(_) => Ok(None),
        Err(Caught::Failure(failure)) => Err(failure),
        Err(Caught::Error { message, .. }) => Ok(Some(message)),
    }
}

/// Whether an error is one of class 22: a value is not as it should be.
pub fn is_data_exception(code: PgSqlErrorCode) -> bool {
    // Five characters of six bits each, the first lowest (MAKE_SQLSTATE in elog.h).
    (code as i32) & 0xFFF == 2 | 2 << 6
}

fn refused_rows(
    session: &mut Session<'_, '_>,
    one: &Archived,
    rows: &Rows,
    (kind, constraint, values): (&'static str, Option<String>, Option<Value>),
    refused: &str,
    found: &mut Vec<Found>,
) -> Outcome<()> {
    let sql = format!(
        "SELECT keepsake_relation, keepsake_ctid FROM {} WHERE {refused}",
        one.whole(rows)
    );
    for place in RowId::read_all(session.over_archives(&one.table, &sql, &[])?)? {
        found.push(Found {
            conflict: Conflict {
                kind,
                table: one.table.shown.clone(),
                key: Value::Null,
                constraint: constraint.clone(),
                values: values.clone().unwrap_or(Value::Null),
                holder: Value::Null,
                deletion_id: None,
            },
            row: (one.table.oid, place),
            holder: None,
            among_restored: false,
        });
    }
    Ok(())
}

/// The conflicts with what the caller may read of their rows.
pub fn shown(
    session: &mut Session<'_, '_>,
    tables: &[Archived],
    keys: &[ForeignKey],
    found: Vec<Found>,
) -> Outcome<Vec<Conflict>> {
    let mut rows: HashMap<pg_sys::Oid, BTreeSet<RowId>> = HashMap::new();
    let mut holders: HashMap<pg_sys::Oid, HashSet<RowId>> = HashMap::new();
    for one in &found {
        rows.entry(one.row.0).or_default().insert(one.row.1);
        if let Some((table, row)) = one.holder {
            holders.entry(table).or_default().insert(row);
        }
    }
    let mut described = HashMap::new();
    for one in tables {
        let live = holders.remove(&one.table.oid).unwrap_or_default();
        let asked = rows.entry(one.table.oid).or_default();
        asked.extend(live.iter().copied());
        let seen = privileges::readable(session, &one.table, live)?;
        described.extend(describe(session, one, keys, asked)?);
        described.extend(
            seen.into_iter()
                .map(|row| ((one.table.oid, row), (Value::Null, Value::Null))),
        );
    }
    let hide = |mut one: Found| {
        match described.get(&one.row) {
            Some((key, values)) => {
                if one.conflict.key.is_null() {
                    one.conflict.key = key.clone();
                }
                if one.conflict.values.is_null()
                    && let Some(referring) = one
                        .conflict
                        .constraint
                        .as_deref()
                        .and_then(|name| values.get(name))
                {
                    one.conflict.values = referring.clone();
                }
            }
            None => {
                one.conflict.key = Value::Null;
                one.conflict.values = Value::Null;
            }
        }
        if !one
            .holder
            .is_some_and(|holder| described.contains_key(&holder))
        {
            one.conflict.holder = Value::Null;
        }
        one.conflict
    };
    let mut conflicts: Vec<Conflict> = found.into_iter().map(hide).collect();
    conflicts.sort_by_cached_key(|one| {
        (
            one.table.clone(),
            one.constraint.clone(),
            one.key.to_string(),
        )
    });
    Ok(conflicts)
}

type Described = HashMap<(pg_sys::Oid, RowId), (Value, Value)>;

/// The keys of those of the archived rows that the caller could see were they live, and what they refer to by each
/// foreign key.
fn describe(
    session: &mut Session<'_, '_>,
    one: &Archived,
    keys: &[ForeignKey],
    rows: &BTreeSet<RowId>,
) -> Outcome<Described> {
    let archived = rows
        .iter()
        .copied()
        .filter(|row| row.relation() == one.archive)
        .collect();
    let rows = Rows {
        also: archived,
        ..Rows::default()
    };
    if rows.is_empty() {
        return Ok(HashMap::new());
    }
    let seen = if rights::is_bound(session, &one.table)? {
        if !privileges::Privileges::of(session, &one.table)?.selects() {
            return Ok(HashMap::new());
        }
        let sql = format!(
            "SELECT keepsake_relation, keepsake_ctid FROM {} WHERE {}",
            one.whole(&rows),
            rights::would_see(session, &one.table)?
        );
        RowId::read_all(session.over_archives_as_caller(&sql)?)?
    } else {
        rows.also.iter().copied().collect()
    };
    if seen.is_empty() {
        return Ok(HashMap::new());
    }
    let alias = one.table.name.name.to_string();
    let references = keys
        .iter()
        .filter(|key| key.reference.child == one.table.oid)
        .map(|key| {
            let values = key.reference.child_columns().into_iter();
            let values = values.map(|column| format!("{}, {alias}.{column}", Literal(&column.0)));
            format!(
                "{}, pg_catalog.jsonb_build_object({})",
                Literal(&key.reference.name),
                join(values, ", ")
            )
        });
    let sql = format!(
        "SELECT {alias}.keepsake_relation, {alias}.keepsake_ctid, {key}, pg_catalog.jsonb_build_object({references}) FROM {whole}",
        key = one.key_json(&alias),
        references = join(references, ", "),
        whole = one.whole(&Rows {
            also: seen.into_iter().collect(),
            ..Rows::default()
        }),
    );
    let mut described = HashMap::new();
    for row in session.over_archives(&one.table, &sql, &[])? {
        if let Some(place) = RowId::read(&row, 1)? {
            described.insert(
                (one.table.oid, place),
                (read_json(&row, 3)?, read_json(&row, 4)?),
            );
        }
    }
    Ok(described)
}

/// The rows of the set that refer to one of `rows`: they have no place without it.
pub fn dependents(
    session: &mut Session<'_, '_>,
    key: &ForeignKey,
    (child, parent): (&Archived, &Archived),
    set: &Set,
    rows: &BTreeSet<RowId>,
) -> Outcome<Vec<RowId>> {
    let staying = Rows {
        also: rows.clone(),
        ..Rows::default()
    };
    let columns = key
        .reference
        .pairs
        .iter()
        .map(|pair| format!("s.{}", pair.parent));
    let sql = format!(
        "WITH keepsake_parents AS NOT MATERIALIZED (SELECT {columns} FROM ({parents}) AS s)
         SELECT c.keepsake_relation, c.keepsake_ctid FROM ({children}) AS c
         WHERE EXISTS (SELECT FROM keepsake_parents AS p WHERE {joins})",
        columns = join(columns, ", "),
        parents = parent.source(&staying),
        children = child.source(&set.rows(child.table.oid)),
        joins = key.reference.joins("c", "p"),
    );
    RowId::read_all(session.over_archives(&child.table, &sql, &[])?)
}

fn read_json(row: &SpiHeapTupleData<'_>, ordinal: usize) -> Outcome<Value> {
    let value = row.get::<JsonB>(ordinal)?;
    Ok(value.map_or(Value::Null, |value| value.0))
}
