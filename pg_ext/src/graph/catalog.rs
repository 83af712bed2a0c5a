//! Reads the reference graph from PostgreSQL's catalog and the registry.

use pgrx::pg_sys;
use pgrx::spi::SpiHeapTupleData;

use crate::graph::reference_graph::Graph;
use crate::model::error::{Failure, Outcome};
use crate::model::on_plain_delete::OnPlainDelete;
use crate::model::reference::{Kind, OnDelete, Pair, Reference};
use crate::model::sql::{Ident, Qualified};
use crate::model::table::{KeyColumn, Partition, Table};
use crate::spi::session::Session;

const CONCERNED: &str = include_str!("concerned_tables.sql");
const TABLES: &str = include_str!("read_tables.sql");
const JOIN_KEY: &str = include_str!("join_key.sql");
const REFERENCES: &str = include_str!("read_references.sql");

/// Whether the graph has anything in it: where every table has an archive, to plan what reads it would take longer than most statements.
const ANY: &str = "
    SELECT 1 FROM keepsake.managed_table WHERE keep = 'in place' UNION ALL SELECT 1 FROM keepsake.declared_reference LIMIT 1";

/// The graph as it is committed now.
pub fn read(session: &Session<'_, '_>) -> Outcome<Graph> {
    if session.registry_now(ANY, &[])?.is_empty() {
        return Ok(Graph::new(Vec::new(), Vec::new()));
    }
    Ok(Graph::new(tables(session)?, references(session, None)?))
}

/// The table and the tables that refer to it.
const NEAR: &str = "
    SELECT $1::oid AS oid
    UNION SELECT con.conrelid FROM pg_constraint con WHERE con.contype = 'f' AND con.conparentid = 0 AND con.confrelid = $1
    UNION SELECT d.child FROM keepsake.declared_reference d WHERE d.parent = $1";

/// Of the graph what concerns one table: it, the tables that refer to it, and all that these refer to.
pub fn read_near(session: &Session<'_, '_>, table: pg_sys::Oid) -> Outcome<Graph> {
    let mut near: Vec<pg_sys::Oid> = Vec::new();
    for row in session.registry_now(NEAR, &[table.into()])? {
        near.push(field(&row, "oid")?);
    }
    let references = references(session, Some(&near))?;
    near.extend(references.iter().map(|reference| reference.parent));
    let sql = format!("WITH concerned AS (SELECT DISTINCT unnest($1) AS oid) {TABLES}");
    let rows = session.registry_now(&with_key(&sql), &[near.into()])?;
    let tables = rows.iter().map(read_table).collect::<Outcome<_>>()?;
    Ok(Graph::new(tables, references))
}

/// The graph of all managed tables, those with an archive as well: for what only looks.
pub fn read_all(session: &Session<'_, '_>) -> Outcome<Graph> {
    let all = |sql: &str| sql.replace("keepsake.kept_in_place", "keepsake.managed_table");
    let mut tables = read_tables(session, &all(&format!("{CONCERNED}{TABLES}")))?;
    for table in &mut tables {
        table.managed &= !table.archived;
    }
    Ok(Graph::new(
        tables,
        read_references(session, &all(REFERENCES), None)?,
    ))
}

fn tables(session: &Session<'_, '_>) -> Outcome<Vec<Table>> {
    read_tables(session, &format!("{CONCERNED}{TABLES}"))
}

fn read_tables(session: &Session<'_, '_>, sql: &str) -> Outcome<Vec<Table>> {
    let rows = session.registry_now(&with_key(sql), &[])?;
    rows.iter().map(read_table).collect()
}

/// One table, whether it is in the graph or not. As the graph knows it, it is managed if it is kept in place.
pub fn table(session: &Session<'_, '_>, oid: pg_sys::Oid) -> Outcome<Option<Table>> {
    let sql = format!("WITH concerned AS (SELECT $1::oid AS oid) {TABLES}");
    let rows = session.registry_now(&with_key(&sql), &[oid.into()])?;
    rows.first().map(read_table).transpose()
}

/// The references of these tables; all, if none are given.
fn references(
    session: &Session<'_, '_>,
    children: Option<&[pg_sys::Oid]>,
) -> Outcome<Vec<Reference>> {
    read_references(session, REFERENCES, children)
}

fn read_references(
    session: &Session<'_, '_>,
    sql: &str,
    children: Option<&[pg_sys::Oid]>,
) -> Outcome<Vec<Reference>> {
    let rows = session.registry_now(sql, &[children.map(<[pg_sys::Oid]>::to_vec).into()])?;
    rows.iter().map(read_reference).collect()
}

/// Puts what finds the primary key of table `c` into a query that names it `JOIN_KEY`.
pub fn with_key(sql: &str) -> String {
    sql.replace("JOIN_KEY", JOIN_KEY)
}

/// The columns of the primary key, of a query that reads `key_names` and the other lists of them.
pub fn key_columns(row: &SpiHeapTupleData<'_>) -> Outcome<Vec<KeyColumn>> {
    let names: Vec<String> = field(row, "key_names")?;
    let types: Vec<String> = field(row, "key_types")?;
    let type_oids: Vec<pg_sys::Oid> = field(row, "key_type_oids")?;
    let declared: Vec<pg_sys::Oid> = field(row, "key_declared_types")?;
    let operators: Vec<String> = field(row, "key_operators")?;
    Ok(names
        .into_iter()
        .zip(types)
        .zip(type_oids)
        .zip(declared)
        .zip(operators)
        .map(
            |((((name, type_sql), type_oid), declared_type), equals)| KeyColumn {
                name: Ident(name),
                type_sql,
                type_oid,
                declared_type,
                equals,
            },
        )
        .collect())
}

fn read_table(row: &SpiHeapTupleData<'_>) -> Outcome<Table> {
    Ok(Table {
        oid: field(row, "oid")?,
        shown: field(row, "shown")?,
        name: Qualified {
            schema: Ident(field(row, "schema")?),
            name: Ident(field(row, "name")?),
        },
        owner: field(row, "owner")?,
        managed: field(row, "managed")?,
        archived: field(row, "archived")?,
        marks: row
            .get_by_name::<String, _>("mark_columns")?
            .and_then(|numbers| marks(&numbers)),
        deletion_index: row.get_by_name("deletion_index")?,
        on_plain_delete: row
            .get_by_name::<String, _>("on_plain_delete")?
            .map(|name| OnPlainDelete::parse(&name))
            .transpose()?,
        partitions: partitions(row)?,
        partitioned: field(row, "partitioned")?,
        may_prevent_update: field(row, "may_prevent_update")?,
        key_is_watched: field(row, "key_is_watched")?,
        guards_stand: field(row, "guards_stand")?,
        columns: field::<Vec<String>>(row, "columns")?
            .into_iter()
            .map(Ident)
            .collect(),
        key: key_columns(row)?,
    })
}

fn partitions(row: &SpiHeapTupleData<'_>) -> Outcome<Vec<Partition>> {
    let oids: Vec<pg_sys::Oid> = field(row, "partition_oids")?;
    let schemas: Vec<String> = field(row, "partition_schemas")?;
    let names: Vec<String> = field(row, "partition_names")?;
    let numbers: Vec<Option<String>> = field(row, "partition_mark_columns")?;
    let named = oids.into_iter().zip(schemas).zip(names).zip(numbers);
    Ok(named
        .map(|(((oid, schema), name), numbers)| Partition {
            oid,
            marks: numbers.as_deref().and_then(marks),
            name: Qualified {
                schema: Ident(schema),
                name: Ident(name),
            },
        })
        .collect())
}

/// Two column numbers, in the order of the columns' names.
fn marks(numbers: &str) -> Option<[i16; 2]> {
    let (deleted_at, deletion_id) = numbers.split_once(' ')?;
    Some([deleted_at.parse().ok()?, deletion_id.parse().ok()?])
}

fn read_reference(row: &SpiHeapTupleData<'_>) -> Outcome<Reference> {
    let lost = row.get_by_name::<bool, _>("is_lost")? == Some(true);
    // What is left of one that is lost names no columns.
    let names = |name: &str| {
        if lost {
            Ok(Vec::new())
        } else {
            field(row, name)
        }
    };
    let children: Vec<String> = names("child_columns")?;
    let parents: Vec<String> = names("parent_columns")?;
    let operators: Vec<String> = names("operators")?;
    let collations: Vec<Option<String>> = row.get_by_name("collations")?.unwrap_or_default();
    let parent_type: Option<String> = row.get_by_name("parent_type")?;
    let kind = match (
        row.get_by_name::<String, _>("type_column")?,
        row.get_by_name::<String, _>("type_value")?,
    ) {
        (Some(type_column), Some(type_value)) => Kind::Declared {
            type_column: Ident(type_column),
            type_value,
        },
        _ => Kind::ForeignKey,
    };
    let on_delete = match field::<String>(row, "on_delete")?.as_str() {
        "c" => OnDelete::Cascade,
        "n" => OnDelete::SetNull,
        "d" => OnDelete::SetDefault,
        _ => OnDelete::Restrict,
    };
    let pairs = children
        .into_iter()
        .zip(parents)
        .zip(operators)
        .zip(collations.into_iter().chain(std::iter::repeat(None)))
        .map(|(((child, parent), equals), collation)| Pair {
            collation,
            child: Ident(child),
            parent: Ident(parent),
            equals,
            parent_type: parent_type.clone(),
        })
        .collect();
    Ok(Reference {
        name: field(row, "name")?,
        child: field(row, "child")?,
        parent: field(row, "parent")?,
        pairs,
        on_delete,
        set_columns: field::<Vec<String>>(row, "set_columns")?
            .into_iter()
            .map(Ident)
            .collect(),
        refuses_null: row.get_by_name("refuses_null")?.unwrap_or(false),
        kind,
        checked_at_commit: row.get_by_name("checked_at_commit")?.unwrap_or(false),
        restricts: row.get_by_name("restricts")?.unwrap_or(false),
        deferrable: field(row, "deferrable")?,
        readable: field(row, "readable")?,
        prints_alike: row.get_by_name("print_alike")?.unwrap_or(false),
        has_period: row.get_by_name("has_period")?.unwrap_or(false),
        lost,
    })
}

/// A column of a catalog query that is never NULL.
pub fn field<T: pgrx::IntoDatum + pgrx::FromDatum>(
    row: &SpiHeapTupleData<'_>,
    name: &str,
) -> Outcome<T> {
    row.get_by_name(name)?.ok_or_else(|| Failure::BadArgument {
        what: format!("the catalog query returned no {name}"),
        fix: "Run CREATE EXTENSION keepsake again; its catalog queries do not fit this version of PostgreSQL."
            .into(),
    })
}
