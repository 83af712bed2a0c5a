//! `ON DELETE SET NULL` and `SET DEFAULT`: references that let go of a deleted row at once, as PostgreSQL's would.
//!
//! What rows referred to is kept in `keepsake.detached`, many rows in one of its own: columns of every
//! type there is, as text ([`crate::model::stored_value`]). A restore puts them back.

use std::ops::Range;

use pgrx::spi::{SpiHeapTupleData, SpiTupleTable};
use pgrx::{PgSqlErrorCode, Uuid, pg_sys};
use serde_json::json;

use crate::graph::reference_graph::Graph;
use crate::graph::stored_columns;
use crate::model::error::{Failure, Outcome};
use crate::model::reference::{OnDelete, Reference};
use crate::model::sql::{Ident, join};
use crate::model::stored_value::{printed, row_of_array};
use crate::model::table::Table;
use crate::postgres::settings::LocalSettings;
use crate::postgres::subtransaction::{Caught, Raised, attempt_unless};
use crate::spi::session::Session;

/// Rows that are remembered in one go.
const WINDOW: i64 = 1000;

/// Makes every row, live or deleted, let go of what the deletion removed, where its reference says
/// SET NULL or SET DEFAULT.
pub fn apply(
    session: &mut Session<'_, '_>,
    graph: &Graph,
    removed: impl IntoIterator<Item = pg_sys::Oid>,
    deletion: Uuid,
) -> Outcome<()> {
    let _exact = LocalSettings::exact_output();
    for parent in removed.into_iter().filter_map(|oid| graph.table(oid)) {
        for (reference, child) in graph.references_to(parent.oid) {
            if reference.on_delete.sets_columns() {
                reference.check_readable(child, parent)?;
                apply_along(session, reference, child, parent, deletion)?;
            }
        }
    }
    Ok(())
}

fn apply_along(
    session: &mut Session<'_, '_>,
    reference: &Reference,
    child: &Table,
    parent: &Table,
    deletion: Uuid,
) -> Outcome<()> {
    let way = |rows| Way {
        reference,
        child,
        parent,
        deletion,
        rows,
    };
    if !reference.clings_to(child) {
        return way(Rows::All).detach(session);
    }
    way(Rows::Live).detach(session)?;
    // A row that is deleted already cannot keep its parent from being deleted. Where it cannot let go, it goes on referring; the restore and
    // the purge mind that.
    let deleted = way(Rows::Deleted);
    let referring = format!("SELECT 1 FROM {}", deleted.referring());
    if session.exists(child, &referring, deletion)? {
        let tried = attempt_unless(|raised| !refuses_value(raised), || deleted.detach(session));
        if let Err(Caught::Failure(failure)) = tried
            && !matches!(failure, Failure::DeadParent { .. })
        {
            return Err(failure);
        }
    }
    Ok(())
}

/// Whether a constraint of the table refuses what a row would be given.
fn refuses_value(raised: Raised) -> bool {
    matches!(
        raised.code,
        PgSqlErrorCode::ERRCODE_NOT_NULL_VIOLATION
            | PgSqlErrorCode::ERRCODE_CHECK_VIOLATION
            | PgSqlErrorCode::ERRCODE_FOREIGN_KEY_VIOLATION
    )
}

/// Which of the referring rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rows {
    All,
    Live,
    /// By this deletion, or by another.
    Deleted,
}

/// A reference along which rows of `child` let go of rows of `parent`.
struct Way<'a> {
    reference: &'a Reference,
    child: &'a Table,
    parent: &'a Table,
    deletion: Uuid,
    rows: Rows,
}

impl Way<'_> {
    fn detach(&self, session: &mut Session<'_, '_>) -> Outcome<()> {
        let from = if self.reference.prints_alike {
            self.beside_parents()
        } else if self.lock(session)? {
            self.beside_themselves()
        } else {
            return Ok(());
        };
        let change = format!(
            "UPDATE {children} AS c SET {set} FROM {from} RETURNING {printed}",
            children = self.child.rows(),
            set = self.set(),
            printed = self.printed(),
        );
        let arguments = [self.deletion.into()];
        session.write_in_windows(
            self.child,
            (&change, &arguments),
            WINDOW,
            |session, rows| self.remember(session, rows),
        )
    }

    /// The condition that row `c` is one of those, to follow another.
    const fn among(&self) -> &'static str {
        match self.rows {
            Rows::All => "",
            Rows::Live => " AND c.deletion_id IS NULL",
            Rows::Deleted => " AND c.deletion_id IS NOT NULL",
        }
    }

    /// What the child held is read from the parent's key, as `o`: PostgreSQL goes on with a row that it has
    /// waited for, as for its own SET NULL.
    fn beside_parents(&self) -> String {
        let names = self.reference.pairs.iter();
        let named = names.map(|pair| format!("p.{} AS {}", pair.parent, pair.child));
        format!(
            "{parents} AS p CROSS JOIN LATERAL (SELECT {named}) AS o
             WHERE p.deletion_id OPERATOR(pg_catalog.=) $1 AND {joins}{among}",
            among = self.among(),
            parents = self.parent.rows(),
            named = join(named, ", "),
            joins = self.reference.joins("c", "p"),
        )
    }

    /// Locks the referring rows, if there are any. Then they are changed by another statement, as the
    /// cascade does it: one that had waited for a lock would not find the row by its old address.
    fn lock(&self, session: &mut Session<'_, '_>) -> Outcome<bool> {
        let lock = format!(
            "SELECT count(*) FROM (SELECT 1 FROM {referring} ORDER BY {key} FOR UPDATE OF c) AS locked",
            referring = self.referring(),
            key = self.child.key_columns("c"),
        );
        let locked = session.as_owner(self.child, &lock, &[self.deletion.into()])?;
        Ok(locked.first().get_one::<i64>()? != Some(0))
    }

    /// What the child held is read from the row as it was, as `o`.
    fn beside_themselves(&self) -> String {
        let columns = self.columns().into_iter();
        format!(
            "(SELECT c.tableoid AS keepsake_relation, c.ctid AS keepsake_row, {columns} FROM {referring}) AS o
             WHERE c.ctid OPERATOR(pg_catalog.=) o.keepsake_row AND c.tableoid OPERATOR(pg_catalog.=) o.keepsake_relation",
            columns = join(columns.map(|column| format!("c.{column}")), ", "),
            referring = self.referring(),
        )
    }

    fn referring(&self) -> String {
        format!(
            "{parents} AS p JOIN {children} AS c ON p.deletion_id OPERATOR(pg_catalog.=) $1 AND {joins}{among}",
            among = self.among(),
            parents = self.parent.rows(),
            children = self.child.rows(),
            joins = self.reference.joins("c", "p"),
        )
    }

    fn set(&self) -> String {
        let value = match self.reference.on_delete {
            OnDelete::SetDefault => "DEFAULT",
            _ => "NULL",
        };
        let columns = self.reference.set_columns.iter();
        join(columns.map(|column| format!("{column} = {value}")), ", ")
    }

    fn key(&self) -> Vec<&Ident> {
        self.child.key.iter().map(|column| &column.name).collect()
    }

    fn columns(&self) -> Vec<&Ident> {
        self.reference.child_columns()
    }

    /// What is remembered of a row: its key and what it held; and what it was given, where that is not NULL.
    fn printed(&self) -> String {
        let of = |row: &str, columns: Vec<&Ident>| -> Vec<String> {
            let columns = columns.into_iter();
            columns.map(|column| printed(row, column)).collect()
        };
        let mut values = of("c", self.key());
        values.extend(of("o", self.columns()));
        if self.sets_default() {
            values.extend(of("c", self.columns()));
        }
        values.join(", ")
    }

    fn sets_default(&self) -> bool {
        self.reference.on_delete == OnDelete::SetDefault
    }

    /// Enters rows of such values into the registry.
    fn remember(&self, session: &mut Session<'_, '_>, rows: SpiTupleTable<'_>) -> Outcome<()> {
        let mut keys = Texts::of(&self.key(), 1);
        let mut old = Texts::of(&self.columns(), keys.end());
        let mut new = self
            .sets_default()
            .then(|| Texts::of(&self.columns(), old.end()));
        for row in rows {
            keys.push(&row)?;
            old.push(&row)?;
            if let Some(new) = &mut new {
                new.push(&row)?;
            }
        }
        let new = new.map(|new| new.texts);
        if let Some(new) = &new {
            refuse_dead_default(
                session,
                self.reference,
                self.child,
                self.parent,
                new.clone(),
            )?;
        }
        session.registry_kept(
            "INSERT INTO keepsake.detached (deletion_id, relation, reference, columns, changed, key_columns, row_keys, old_values, new_values)
             VALUES ($1, $2, $3::text::name, $4::text[]::name[], $5::text[]::name[], $6::text[]::name[], $7, $8, $9)",
            &[
                self.deletion.into(),
                self.child.oid.into(),
                self.reference.name.as_str().into(),
                names(self.columns()).into(),
                names(&self.reference.set_columns).into(),
                names(self.key()).into(),
                keys.texts.into(),
                old.texts.into(),
                new.into(),
            ],
        )?;
        Ok(())
    }
}

fn names<'a>(columns: impl IntoIterator<Item = &'a Ident>) -> Vec<String> {
    columns.into_iter().map(|column| column.0.clone()).collect()
}

/// Columns of many rows, each row a JSON array of what its types print, as text.
struct Texts {
    /// Where the columns are in a row that is read.
    ordinals: Range<usize>,
    texts: Vec<String>,
}

impl Texts {
    fn of(columns: &[&Ident], first: usize) -> Self {
        Self {
            ordinals: first..first + columns.len(),
            texts: Vec::new(),
        }
    }

    const fn end(&self) -> usize {
        self.ordinals.end
    }

    fn push(&mut self, row: &SpiHeapTupleData<'_>) -> Outcome<()> {
        let values = self
            .ordinals
            .clone()
            .map(|ordinal| row.get::<String>(ordinal));
        let values: Vec<Option<String>> = values.collect::<Result<_, _>>()?;
        self.texts.push(json!(values).to_string());
        Ok(())
    }
}

/// The default must not refer to a deleted row either; that it refers to a row at all is what the
/// foreign key checks.
fn refuse_dead_default(
    session: &mut Session<'_, '_>,
    reference: &Reference,
    child: &Table,
    parent: &Table,
    new: Vec<String>,
) -> Outcome<()> {
    let columns = reference.child_columns();
    let columns = columns.into_iter().map(|column| column.0.as_str());
    let columns = stored_columns::find(session, child, columns)?.unwrap_or_default();
    let sql = format!(
        "SELECT 1 FROM pg_catalog.unnest($1) AS d (new),
                       LATERAL {row} AS n,
                       {parents} AS p
         WHERE {joins} AND p.deletion_id IS NOT NULL LIMIT 1",
        row = row_of_array(&columns, "d.new"),
        parents = parent.rows(),
        joins = reference.joins("n", "p"),
    );
    if session.as_owner(child, &sql, &[new.into()])?.is_empty() {
        return Ok(());
    }
    Err(Failure::DeadParent {
        child: child.shown.clone(),
        parent: parent.shown.clone(),
        reference: reference.name.clone(),
        constraint: reference.constraint_of(child),
    })
}
