//! Reads the reference graph from PostgreSQL's catalog, and keeps it until it changes.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::rc::Rc;

use pgrx::pg_sys;
use pgrx::spi::SpiHeapTupleData;

use crate::graph::reference_graph::{
    Graph, KeyColumn, Kind, OnDelete, Pair, Partition, Reference, Table,
};
use crate::model::error::{Failure, Outcome};
use crate::model::on_plain_delete::OnPlainDelete;
use crate::model::sql::{Ident, Qualified};
use crate::spi::session::Session;

thread_local! {
    static CACHE: RefCell<Option<(Rc<Graph>, HashSet<pg_sys::Oid>)>> = const { RefCell::new(None) };
    /// How often something has been forgotten, to notice what changes during a reading.
    static CHANGES: Cell<u64> = const { Cell::new(0) };
    static REGISTERED: Cell<bool> = const { Cell::new(false) };
}

/// The graph, from the cache when nothing in it has changed.
pub fn cached(session: &Session<'_, '_>) -> Outcome<Rc<Graph>> {
    if let Some(graph) = kept() {
        return Ok(graph);
    }
    register_invalidation();
    let before = CHANGES.get();
    let graph = Rc::new(Graph::new(tables(session)?, references(session)?));
    // What changed while it was read is good for this call alone.
    if CHANGES.get() == before {
        CACHE.set(Some((Rc::clone(&graph), graph.oids())));
    }
    Ok(graph)
}

/// The graph, where it is in the cache.
pub fn kept() -> Option<Rc<Graph>> {
    CACHE.with_borrow(|cache| cache.as_ref().map(|(graph, _)| Rc::clone(graph)))
}

/// Tells every backend that what is known of `table` has changed, once the transaction commits.
pub fn invalidate(table: pg_sys::Oid) {
    CACHE.set(None);
    // SAFETY: looks the relation up in the system's caches, which refuse an OID that is none, and queues a
    // message.
    unsafe { pg_sys::CacheInvalidateRelcacheByRelid(table) }
}

fn register_invalidation() {
    if REGISTERED.replace(true) {
        return;
    }
    let nothing = pg_sys::Datum::from(0_usize);
    // SAFETY: called once in a backend's life, with functions that live as long as it. Renaming a
    // schema, and changing what a role may see, tell no relation of it.
    unsafe {
        pg_sys::CacheRegisterRelcacheCallback(Some(forget), nothing);
        for cache in [
            pg_sys::SysCacheIdentifier::NAMESPACEOID,
            pg_sys::SysCacheIdentifier::AUTHOID,
        ] {
            pg_sys::CacheRegisterSyscacheCallback(cache as i32, Some(forget_all), nothing);
        }
    }
}

/// A schema or role changed.
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn forget_all(_argument: pg_sys::Datum, _cache: i32, _hash: u32) {
    CHANGES.set(CHANGES.get().wrapping_add(1));
    CACHE.set(None);
}

/// A relation changed. One outside the graph matters only when it begins to refer into it, and
/// then the referred table changes as well (a foreign key adds triggers to both sides).
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn forget(_argument: pg_sys::Datum, relation: pg_sys::Oid) {
    CHANGES.set(CHANGES.get().wrapping_add(1));
    // A nested borrow is impossible: no catalog access happens while the cache is borrowed.
    let concerned = CACHE.with_borrow(|cache| {
        cache
            .as_ref()
            .is_some_and(|(_, known)| relation == pg_sys::InvalidOid || known.contains(&relation))
    });
    if concerned {
        CACHE.set(None);
    }
}

/// A table's name as a person would write it.
pub fn shown(session: &Session<'_, '_>, table: pg_sys::Oid) -> Outcome<String> {
    let name = session
        .catalog("SELECT $1::regclass::text", &[table.into()])?
        .first()
        .get_one()?;
    Ok(name.unwrap_or_else(|| table.to_u32().to_string()))
}

/// A type's name as a person would write it.
pub fn shown_type(session: &Session<'_, '_>, oid: pg_sys::Oid) -> Outcome<String> {
    let name = session
        .catalog("SELECT format_type($1, NULL)", &[oid.into()])?
        .first()
        .get_one()?;
    Ok(name.unwrap_or_default())
}

/// The triggers of one table that are Keepsake's and not a copy of the partitioned table's.
pub const OWN_TRIGGERS: &str = "
    SELECT t.tgname::text FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
    WHERE t.tgrelid = $1 AND t.tgparentid = 0 AND p.pronamespace = 'keepsake'::regnamespace";

const TABLES: &str = include_str!("read_tables.sql");
const REFERENCES: &str = include_str!("read_references.sql");

fn tables(session: &Session<'_, '_>) -> Outcome<Vec<Table>> {
    session
        .registry_now(TABLES, &[])?
        .iter()
        .map(read_table)
        .collect()
}

fn references(session: &Session<'_, '_>) -> Outcome<Vec<Reference>> {
    session
        .registry_now(REFERENCES, &[])?
        .iter()
        .map(read_reference)
        .collect()
}

fn read_table(row: &SpiHeapTupleData<'_>) -> Outcome<Table> {
    let names: Vec<String> = field(row, "key_names")?;
    let types: Vec<String> = field(row, "key_types")?;
    let type_oids: Vec<pg_sys::Oid> = field(row, "key_type_oids")?;
    let declared: Vec<pg_sys::Oid> = field(row, "key_declared_types")?;
    let operators: Vec<String> = field(row, "key_operators")?;
    let key = names
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
        .collect();
    Ok(Table {
        oid: field(row, "oid")?,
        shown: field(row, "shown")?,
        name: Qualified {
            schema: Ident(field(row, "schema")?),
            name: Ident(field(row, "name")?),
        },
        owner: field(row, "owner")?,
        managed: field(row, "managed")?,
        marks: row
            .get_by_name::<String, _>("mark_columns")?
            .and_then(|numbers| marks(&numbers)),
        policy: row
            .get_by_name::<String, _>("policy")?
            .map(|name| OnPlainDelete::parse(&name))
            .transpose()?,
        partitions: partitions(row)?,
        partitioned: field(row, "partitioned")?,
        may_prevent_update: field(row, "may_prevent_update")?,
        key_is_watched: field(row, "key_is_watched")?,
        columns: field::<Vec<String>>(row, "columns")?
            .into_iter()
            .map(Ident)
            .collect(),
        key,
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
        .map(|((child, parent), equals)| Pair {
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
        detached_columns: field::<Vec<String>>(row, "detached_columns")?
            .into_iter()
            .map(Ident)
            .collect(),
        kind,
        deferrable: field(row, "deferrable")?,
        readable: field(row, "readable")?,
        prints_alike: row.get_by_name("print_alike")?.unwrap_or(false),
        lost,
    })
}

fn field<T: pgrx::IntoDatum + pgrx::FromDatum>(
    row: &SpiHeapTupleData<'_>,
    name: &str,
) -> Outcome<T> {
    row.get_by_name(name)?.ok_or_else(|| Failure::BadArgument {
        what: format!("the catalog gave no {name}"),
        fix: "Run CREATE EXTENSION keepsake anew; its catalog queries do not fit this PostgreSQL."
            .into(),
    })
}
