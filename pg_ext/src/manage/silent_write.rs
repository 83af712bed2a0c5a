//! Writes that fire no trigger, and what must not run meanwhile: without triggers no foreign key is checked and nothing is
//! archived, whoever writes.

use std::collections::BTreeSet;

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys;
use pgrx::spi::SpiHeapTupleData;

use crate::model::error::{Failure, Outcome};
use crate::spi::session::Session;

const WRITTEN_OBJECTS: &str = include_str!("written_objects.sql");
const MADE_OF: &str = include_str!("made_of.sql");
const OWNER_CODE: &str = include_str!("owner_code.sql");

/// Refuses if a write to the table, which is locked, would run code of its owner's although its triggers are off.
pub fn refuse_owner_code(session: &Session<'_, '_>, oid: pg_sys::Oid, shown: &str) -> Outcome<()> {
    let (catalogs, objects) = concerned(session, oid)?.into_iter().unzip();
    let rows = session.catalog_now(OWNER_CODE, &[oid.into(), oids(catalogs), oids(objects)])?;
    let Some(row) = rows.first() else {
        return Ok(());
    };
    let code: Option<String> = row.get(1)?;
    Err(Failure::CannotManage {
        table: shown.to_owned(),
        why: format!(
            "Its rows move without triggers and foreign keys, and this would run meanwhile: {}.",
            code.unwrap_or_default()
        ),
        fix: "Drop it for the move, or let it use only functions of PostgreSQL or of an extension. A trigger or rule may stay once it is enabled neither ALWAYS nor for REPLICA.".into(),
    })
}

/// A catalog and an object in it.
type Object = (u32, u32);

/// All that a write to the table concerns. Step by step: how much a recursive query finds, the planner cannot know.
fn concerned(session: &Session<'_, '_>, oid: pg_sys::Oid) -> Outcome<BTreeSet<Object>> {
    let mut all = BTreeSet::new();
    let mut new = objects(session.catalog_now(WRITTEN_OBJECTS, &[oid.into()])?)?;
    while !new.is_empty() {
        all.extend(new.iter().copied());
        let (catalogs, of) = new.into_iter().unzip();
        let found = objects(session.catalog_now(MADE_OF, &[oids(catalogs), oids(of)])?)?;
        new = found.difference(&all).copied().collect();
    }
    Ok(all)
}

fn objects(rows: Vec<SpiHeapTupleData<'_>>) -> Outcome<BTreeSet<Object>> {
    let mut objects = BTreeSet::new();
    for row in rows {
        let (catalog, object): (Option<pg_sys::Oid>, Option<pg_sys::Oid>) =
            (row.get(1)?, row.get(2)?);
        objects.extend(
            catalog
                .zip(object)
                .map(|(catalog, object)| (catalog.to_u32(), object.to_u32())),
        );
    }
    Ok(objects)
}

fn oids(numbers: Vec<u32>) -> DatumWithOid<'static> {
    let oids: Vec<pg_sys::Oid> = numbers.into_iter().map(Into::into).collect();
    oids.into()
}
