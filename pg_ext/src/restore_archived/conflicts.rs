//! What stands in the way of archived rows, found before anything is written: each row is judged in the shape that it
//! would have.

use std::collections::{BTreeSet, HashMap, HashSet};

use pgrx::pg_sys;
use pgrx::spi::SpiHeapTupleData;
use serde_json::{Value, json};

use crate::access::privileges;
use crate::access::trust::is_trusted;
use crate::graph::catalog::field;
use crate::model::conflict::Conflict;
use crate::model::error::Outcome;
use crate::model::found_conflict::Found;
use crate::model::row_id::RowId;
use crate::model::sql::{Ident, Literal, join};
use crate::restore_archived::archived_rows::{Archived, Rows, read_json};
use crate::restore_archived::foreign_keys::ForeignKey;
use crate::restore_archived::index_entry::with_entry;
use crate::restore_archived::rights;
use crate::restore_archived::row_choice::Set;
use crate::restore_archived::unique_keys::Place;
use crate::spi::owners_rows::ROWS;
use crate::spi::session::Session;

const UNIQUE: &str = include_str!("read_unique.sql");
const CHECKS: &str = include_str!("read_checks.sql");

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
        source = one.versions(rows),
    );
    RowId::read_all(session.over_archives(&one.table, &sql, &[])?)
}

/// Every other conflict of the rows of these tables.
pub fn find(session: &mut Session<'_, '_>, tables: &[Archived], set: &Set) -> Outcome<Vec<Found>> {
    let oids: Vec<pg_sys::Oid> = tables.iter().map(|one| one.table.oid).collect();
    let unique = session.registry_now_of_few(&with_entry(UNIQUE), &[oids.clone().into()])?;
    let checks = session.registry_now_of_few(CHECKS, &[oids.into()])?;
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
            let column = Ident(column.clone());
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
        let selects = privileges::Privileges::of(session, &one.table)?.selects();
        if !selects || !is_trusted(session, &one.table)? {
            return Ok(HashMap::new());
        }
        let sql = format!(
            "SELECT keepsake_relation, keepsake_ctid FROM {ROWS} AS {} WHERE {}",
            one.table.name.name,
            rights::would_see(session, &one.table)?
        );
        session.with_owners_rows(&one.table, &one.whole_query(&rows), |session| {
            RowId::read_all(session.as_caller_under_policies(&sql, &[])?)
        })?
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
