//! Archived rows in the shape that their table has now.
//!
//! A row was archived in one of the table's layouts. Every statement of a restore reads archived rows through
//! [`Archived::source`], a query that gives them today's columns: what was renamed is found by its number, what was
//! added since has the value that a live row of that age shows, what was retyped is converted as an assignment would.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::CStr;

use pgrx::spi::SpiHeapTupleData;
use pgrx::{JsonB, Uuid, pg_sys};
use serde_json::Value;

use crate::archive::using::Conversion;
use crate::graph::catalog::{field, key_columns, with_key};
use crate::model::error::Outcome;
use crate::model::row_id::{RowId, is_among};
use crate::model::sql::{Ident, Literal, Qualified, join};
use crate::model::table::Table;
use crate::spi::session::Session;

const TABLES: &str = include_str!("read_tables.sql");
const COLUMNS: &str = include_str!("read_columns.sql");
const LAYOUTS: &str = include_str!("read_layouts.sql");
const EXPRESSIONS: &str = "
    SELECT a.attnum, pg_catalog.pg_get_expr(d.adbin, d.adrelid)
    FROM pg_catalog.pg_attribute AS a JOIN pg_catalog.pg_attrdef AS d ON d.adrelid OPERATOR(pg_catalog.=) a.attrelid AND d.adnum OPERATOR(pg_catalog.=) a.attnum
    WHERE a.attrelid OPERATOR(pg_catalog.=) $1 AND a.attgenerated OPERATOR(pg_catalog.<>) ''";

/// A table whose rows are archived, and what is in its archive.
#[derive(Debug)]
pub struct Archived {
    /// The table.
    pub table: Table,
    /// Its archive.
    pub archive: pg_sys::Oid,
    /// The archive's name.
    pub archive_name: Qualified,
    /// Whether its own AFTER INSERT triggers fire when rows come back.
    pub fires: bool,
    /// Whether a unique or exclusion constraint may be put off to the commit: the insert does not say what breaks it.
    pub defers: bool,
    /// Its columns.
    pub columns: Vec<Column>,
    /// Where the archive keeps the columns of each layout.
    layouts: BTreeMap<i32, HashMap<i16, Kept>>,
}

/// A column as it is now.
#[derive(Debug)]
pub struct Column {
    /// Its number.
    pub number: i16,
    /// Its name.
    pub name: Ident,
    /// Whether it takes no NULL.
    pub not_null: bool,
    /// What it is computed by, if it is.
    pub computed: Option<String>,
    type_oid: pg_sys::Oid,
    type_sql: String,
    base: pg_sys::Oid,
    base_sql: String,
    typmod: i32,
    collation: pg_sys::Oid,
    collate_sql: Option<String>,
    /// What rows show that were there before the column.
    missing: Option<String>,
}

impl Column {
    fn kind(&self) -> ValueType {
        ValueType {
            oid: self.base,
            sql: self.base_sql.clone(),
            typmod: self.typmod,
        }
    }

    /// Text, in the form that the column's type reads, as a value of what the type is over.
    pub fn read(&self, text: &str) -> String {
        format!("CAST({text} AS {})", self.base_sql)
    }
}

/// A column of a layout.
#[derive(Debug)]
struct Kept {
    /// What the archive calls it; `None` once the archive has lost it.
    name: Option<Ident>,
    kind: ValueType,
    collation: pg_sys::Oid,
    /// What rows of earlier layouts have, as text.
    missing: Option<String>,
    /// How the values of the layout before became those of this one; `None` as by an assignment.
    conversion: Option<Conversion>,
    /// Whether the primary key had it then.
    in_key: bool,
}

/// A type with its length or precision; never a domain.
#[derive(Clone, Debug)]
struct ValueType {
    oid: pg_sys::Oid,
    sql: String,
    typmod: i32,
}

/// Archived rows of one table.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    /// Deletions of which all rows are among them.
    pub deletions: Vec<Uuid>,
    /// Rows of other deletions.
    pub also: BTreeSet<RowId>,
    /// Rows of those deletions that are not among them.
    pub without: BTreeSet<RowId>,
}

impl Rows {
    /// Whether there can be none.
    pub fn is_empty(&self) -> bool {
        self.deletions.is_empty() && self.also.is_empty()
    }

    /// Takes a row out.
    pub fn remove(&mut self, row: RowId) -> bool {
        self.also.remove(&row) || self.without.insert(row)
    }

    /// Conditions on row `alias` of the archive that hold for no row twice, and together for these.
    pub fn conditions(&self, alias: &str) -> Vec<String> {
        let mut conditions = Vec::new();
        if !self.deletions.is_empty() {
            let without = if self.without.is_empty() {
                String::new()
            } else {
                format!(" AND NOT {}", is_among(&self.without, alias))
            };
            conditions.push(format!(
                "{alias}.keepsake_deletion {}{without}",
                one_of(&self.deletions)
            ));
        }
        if !self.also.is_empty() {
            conditions.push(is_among(&self.also, alias));
        }
        if conditions.is_empty() {
            conditions.push("false".into());
        }
        conditions
    }
}

/// The comparison with one or several deletions.
pub fn one_of(deletions: &[Uuid]) -> String {
    let written = deletions
        .iter()
        .map(|id| format!("'{id}'::pg_catalog.uuid"));
    match deletions {
        [_] => format!("OPERATOR(pg_catalog.=) {}", join(written, "")),
        _ => format!(
            "OPERATOR(pg_catalog.=) ANY (ARRAY[{}])",
            join(written, ", ")
        ),
    }
}

/// A column's value in rows of one layout.
enum Source {
    Sql(String),
    /// There is no conversion of this column of the archive; of none, not even of NULL, when it is not known which there was.
    Inconvertible(Option<Ident>),
}

impl Archived {
    /// The tables among `relations` that have an archive, by name.
    pub fn read(session: &Session<'_, '_>, relations: &[pg_sys::Oid]) -> Outcome<Vec<Self>> {
        let found = session.registry_now_of_few(&with_key(TABLES), &[relations.to_vec().into()])?;
        let mut tables = found.iter().map(read_table).collect::<Outcome<Vec<_>>>()?;
        let oids: Vec<pg_sys::Oid> = tables.iter().map(|one| one.table.oid).collect();
        let archives: Vec<pg_sys::Oid> = tables.iter().map(|one| one.archive).collect();
        for row in &session.registry_now_of_few(COLUMNS, &[oids.into()])? {
            let relation: pg_sys::Oid = field(row, "relation")?;
            if let Some(one) = tables.iter_mut().find(|one| one.table.oid == relation) {
                let column = read_column(row)?;
                one.table.columns.push(column.name.clone());
                one.columns.push(column);
            }
        }
        for one in &mut tables {
            print_computed(session, one)?;
        }
        for row in &session.registry_now_of_few(LAYOUTS, &[archives.into()])? {
            let archive: pg_sys::Oid = field(row, "archive")?;
            if let Some(one) = tables.iter_mut().find(|one| one.archive == archive) {
                let layout = one.layouts.entry(field(row, "layout")?).or_default();
                layout.insert(field(row, "attnum")?, read_kept(row)?);
            }
        }
        tables.sort_by(|one, other| one.table.shown.cmp(&other.table.shown));
        Ok(tables)
    }

    /// As [`Self::source`], for those of the rows that may be versions of each other: see [`Self::has_todays_key`].
    pub fn versions(&self, rows: &Rows) -> String {
        let condition = self.has_todays_key();
        let conditions = rows.conditions("a").into_iter();
        let conditions: Vec<String> = conditions
            .map(|rows| format!("({rows}) AND {condition}"))
            .collect();
        self.source_where(&conditions, self.columns.iter())
    }

    /// A query for archived rows: where each is in the archive (`keepsake_relation`, `keepsake_ctid`), its deletion and
    /// place in it, and today's columns in the types that domains are over. What is computed has the value that it had when the row was
    /// deleted: keys can have it, and nothing of the owner's is run.
    pub fn source(&self, rows: &Rows) -> String {
        self.source_where(&rows.conditions("a"), self.columns.iter())
    }

    fn source_where<'a>(
        &self,
        conditions: &[String],
        columns: impl Iterator<Item = &'a Column>,
    ) -> String {
        let columns = columns.map(|column| format!(", {} AS {}", self.value(column), column.name));
        let columns = join(columns, "");
        let selects = conditions.iter().map(|condition| {
            format!(
                "SELECT a.tableoid AS keepsake_relation, a.ctid AS keepsake_ctid, a.keepsake_deletion, a.keepsake_seq{columns} FROM {} AS a WHERE {condition}",
                self.archive_name
            )
        });
        join(selects, " UNION ALL ")
    }

    /// The same for all rows of the archive.
    pub fn source_of_all(&self) -> String {
        self.source_where(&["true".to_owned()], self.columns.iter())
    }

    /// The same with columns computed anew, as an expression of the table sees a row: for FROM, under the table's own name.
    pub fn whole(&self, rows: &Rows) -> String {
        self.whole_where(&rows.conditions("a"))
    }

    /// The same as a query.
    pub fn whole_query(&self, rows: &Rows) -> String {
        format!(
            "SELECT {}.* FROM {}",
            self.table.name.name,
            self.whole(rows)
        )
    }

    /// The same for the rows `a` of the archive that meet one of these conditions, no row two of them.
    pub fn whole_where(&self, conditions: &[String]) -> String {
        let plain = self.source_where(conditions, self.stored_columns());
        let computed: Vec<String> = self
            .columns
            .iter()
            .filter_map(|column| {
                let expression = column.computed.as_ref()?;
                Some(format!(", ({expression}) AS {}", column.name))
            })
            .collect();
        let name = &self.table.name.name;
        if computed.is_empty() {
            format!("({plain}) AS {name}")
        } else {
            format!(
                "(SELECT {name}.*{} FROM ({plain}) AS {name}) AS {name}",
                join(computed, "")
            )
        }
    }

    /// Whether reading the rows may convert a value.
    pub fn converts(&self) -> bool {
        self.stored_columns().any(|column| {
            let first = self.layouts.keys().next();
            first.is_some_and(|first| !self.stays(column, *first))
        })
    }

    /// The value of a column of today's in archived row `a`.
    pub fn value(&self, column: &Column) -> String {
        let values: Vec<(i32, String)> = self
            .layouts
            .keys()
            .map(|layout| match self.value_in(column, *layout) {
                // A conversion of what is computed anyway must not fail.
                Source::Sql(sql) if column.computed.is_none() || self.stays(column, *layout) => {
                    (*layout, sql)
                }
                _ => (*layout, null(column)),
            })
            .collect();
        let Some((_, newest)) = values.last() else {
            return null(column);
        };
        if values.iter().all(|(_, value)| value == newest) {
            newest.clone()
        } else {
            let cases = values.iter().map(|(layout, value)| {
                format!(" WHEN a.keepsake_layout OPERATOR(pg_catalog.=) {layout} THEN {value}")
            });
            format!("CASE{} END", join(cases, ""))
        }
    }

    /// A query for rows to be written: the values of [`Self::stored_columns`], those of domains checked anew.
    pub fn to_store(&self, rows: &Rows) -> String {
        let columns = self.stored_columns().map(|column| {
            if column.type_oid == column.base {
                format!("s.{}", column.name)
            } else {
                format!("CAST(s.{} AS {})", column.name, column.type_sql)
            }
        });
        format!(
            "SELECT {} FROM ({}) AS s",
            join(columns, ", "),
            self.source(rows)
        )
    }

    /// The column that is called so now.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name.0 == name)
    }

    /// The columns that are not computed.
    pub fn stored_columns(&self) -> impl Iterator<Item = &Column> {
        self.columns
            .iter()
            .filter(|column| column.computed.is_none())
    }

    /// The value of a column of today's, made of that of a layout step by step, as each change of its type made it of live rows'. `None`
    /// where there is no conversion, or one that is not known.
    fn convert(
        &self,
        value: String,
        from: &ValueType,
        layout: i32,
        column: &Column,
    ) -> Option<String> {
        let (mut value, mut from) = (value, from.clone());
        for kept in self.kept_since(column, layout + 1) {
            let to = match kept.conversion {
                Some(Conversion::Unknown) => return None,
                Some(Conversion::Cast) => kept.kind.clone(),
                None => kept.kind.between(),
            };
            // Through a type that was dropped since nothing is converted any more.
            if !to.sql.is_empty() {
                value = convert(&value, &from, &to, kept.conversion)?;
                from = to;
            }
        }
        convert(&value, &from, &column.kind(), None)
    }

    fn value_in(&self, column: &Column, layout: i32) -> Source {
        let kept = self
            .layouts
            .get(&layout)
            .and_then(|columns| columns.get(&column.number));
        if let Some(kept) = kept {
            let Some(name) = &kept.name else {
                return Source::Sql(null(column));
            };
            let value = format!("a.{name}");
            if self.stays(column, layout) {
                return Source::Sql(match &column.collate_sql {
                    Some(collate) if kept.collation != column.collation => {
                        format!("{value}{collate}")
                    }
                    _ => value,
                });
            }
            return match self.convert(value, &kept.kind, layout, column) {
                Some(sql) => Source::Sql(sql),
                None if self.is_unknown(column, layout) => Source::Inconvertible(None),
                None => Source::Inconvertible(Some(name.clone())),
            };
        }
        let later = self
            .layouts
            .range(layout..)
            .find_map(|(layout, columns)| Some((*layout, columns.get(&column.number)?)));
        let Some((later_layout, later)) = later else {
            let missing = column.missing.as_deref();
            return Source::Sql(missing.map_or_else(
                || null(column),
                |text| column.read(&Literal(text).to_string()),
            ));
        };
        let missing = later.missing.as_ref();
        let Some(missing) = missing.filter(|_| !later.kind.sql.is_empty()) else {
            return Source::Sql(null(column));
        };
        if self.is_unknown(column, later_layout) {
            return Source::Inconvertible(None);
        }
        let value = format!("CAST({} AS {})", Literal(missing), later.kind.sql);
        Source::Sql(
            self.convert(value, &later.kind, later_layout, column)
                .unwrap_or_else(|| null(column)),
        )
    }

    /// Whether the archive keeps the column, from this layout on, as it is now.
    fn stays(&self, column: &Column, layout: i32) -> bool {
        let mut kept = self.kept_since(column, layout);
        kept.all(|kept| kept.fits(column)) && !self.is_converted(column, layout)
    }

    fn kept_since(&self, column: &Column, layout: i32) -> impl Iterator<Item = &Kept> {
        let number = column.number;
        let layouts = self.layouts.range(layout..);
        layouts.filter_map(move |(_, columns)| columns.get(&number))
    }

    /// Whether a later change of its type said by USING how its values are converted.
    fn is_converted(&self, column: &Column, layout: i32) -> bool {
        let mut later = self.kept_since(column, layout + 1);
        later.any(|kept| kept.conversion.is_some())
    }

    /// The same, by an expression that is not known.
    fn is_unknown(&self, column: &Column, layout: i32) -> bool {
        let mut later = self.kept_since(column, layout + 1);
        later.any(|kept| kept.conversion == Some(Conversion::Unknown))
    }

    /// For each column of today's that archived rows have in a type without a conversion: the condition on row `a` of the
    /// archive that it has a value there.
    pub fn inconvertible(&self) -> Vec<(&Column, String)> {
        let mut found = Vec::new();
        for column in self
            .columns
            .iter()
            .filter(|column| column.computed.is_none())
        {
            for layout in self.layouts.keys() {
                if let Source::Inconvertible(name) = self.value_in(column, *layout) {
                    let has_value =
                        name.map_or_else(String::new, |name| format!(" AND a.{name} IS NOT NULL"));
                    found.push((
                        column,
                        format!("a.keepsake_layout OPERATOR(pg_catalog.=) {layout}{has_value}"),
                    ));
                }
            }
        }
        found
    }

    /// What the archive calls a column in its newest layout, where it keeps it in the type that the column has now.
    pub fn kept_name(&self, number: i16) -> Option<(&Column, &Ident, i32)> {
        let (layout, columns) = self.layouts.last_key_value()?;
        let column = self.columns.iter().find(|column| column.number == number)?;
        let kept = columns.get(&number).filter(|kept| kept.fits(column))?;
        Some((column, kept.name.as_ref()?, *layout))
    }

    /// What the archive calls a column, where all its layouts keep it in one place, in the type that the column has now.
    pub fn kept_everywhere(&self, number: i16) -> Option<&Ident> {
        let column = self.columns.iter().find(|column| column.number == number)?;
        let mut places = self.layouts.values().map(|layout| {
            let kept = layout.get(&number).filter(|kept| kept.fits(column))?;
            kept.name.as_ref()
        });
        let first = places.next()??;
        places.all(|place| place == Some(first)).then_some(first)
    }

    /// The condition on row `a` of the archive that the table had today's primary key when the row was archived. Rows that another key told apart are
    /// no versions of one row, whatever they have in today's key.
    pub fn has_todays_key(&self) -> String {
        let key: BTreeSet<i16> = self
            .columns
            .iter()
            .filter(|column| self.table.key.iter().any(|key| key.name == column.name))
            .map(|column| column.number)
            .collect();
        let had = |columns: &HashMap<i16, Kept>| -> BTreeSet<i16> {
            let in_key = columns.iter().filter(|(_, kept)| kept.in_key);
            in_key.map(|(number, _)| *number).collect()
        };
        let layouts = self.layouts.iter();
        let same = layouts.filter(|(_, columns)| had(columns) == key);
        let same: Vec<String> = same.map(|(layout, _)| layout.to_string()).collect();
        if same.len() == self.layouts.len() {
            return "true".into();
        }
        format!(
            "a.keepsake_layout OPERATOR(pg_catalog.=) ANY ('{{{}}}'::pg_catalog.int4[])",
            join(same, ",")
        )
    }

    /// The equality of a column of the primary key; `None` of any other.
    pub fn key_equals(&self, column: &Column) -> Option<&str> {
        let key = self.table.key.iter().find(|key| key.name == column.name)?;
        Some(&key.equals)
    }

    /// The key of row `alias` of a source as JSON; NULL where the table has none.
    pub fn key_json(&self, alias: &str) -> String {
        if self.table.key.is_empty() {
            "NULL::pg_catalog.jsonb".into()
        } else {
            self.table.key_json(alias)
        }
    }
}

impl Kept {
    /// Whether the archive keeps the column as it is now.
    fn fits(&self, column: &Column) -> bool {
        self.name.is_none()
            || self.kind.oid == column.base
                && (self.kind.typmod == column.typmod || column.typmod == -1)
    }
}

impl ValueType {
    /// For a value on its way to another type: no text is cut that later may be long again.
    fn between(&self) -> Self {
        let is_text = matches!(self.oid, pg_sys::VARCHAROID | pg_sys::BPCHAROID);
        Self {
            typmod: if is_text { -1 } else { self.typmod },
            ..self.clone()
        }
    }
}

fn null(column: &Column) -> String {
    format!("NULL::{}", column.base_sql)
}

/// The value as an assignment, or a cast, would make it one of the other type; `None` where there is no such conversion.
fn convert(
    value: &str,
    from: &ValueType,
    to: &ValueType,
    how: Option<Conversion>,
) -> Option<String> {
    let is_cast = how == Some(Conversion::Cast);
    let retyped = if from.oid == to.oid {
        value.to_owned()
    } else {
        let context = if is_cast {
            pg_sys::CoercionContext::COERCION_EXPLICIT
        } else {
            pg_sys::CoercionContext::COERCION_ASSIGNMENT
        };
        let mut function = pg_sys::InvalidOid;
        // SAFETY: looks into the catalog for a conversion between two types.
        let path =
            unsafe { pg_sys::find_coercion_pathway(to.oid, from.oid, context, &raw mut function) };
        if path == pg_sys::CoercionPathType::COERCION_PATH_NONE {
            return None;
        }
        format!("CAST({value} AS {})", to.sql)
    };
    if to.typmod == -1 || from.oid == to.oid && from.typmod == to.typmod {
        return Some(retyped);
    }
    to_length(&retyped, to, is_cast)
}

/// Brings a value of the type to its length or precision; what does not fit is an error, as in an INSERT, unless it is cast.
fn to_length(value: &str, to: &ValueType, is_cast: bool) -> Option<String> {
    let mut function = pg_sys::InvalidOid;
    // SAFETY: looks into the catalog; the names are copies in the current memory context.
    unsafe {
        let path = pg_sys::find_typmod_coercion_function(to.oid, &raw mut function);
        match path {
            pg_sys::CoercionPathType::COERCION_PATH_NONE => return Some(value.to_owned()),
            pg_sys::CoercionPathType::COERCION_PATH_FUNC => {}
            _ => return None,
        }
        let name = text(pg_sys::get_func_name(function))?;
        let schema = text(pg_sys::get_namespace_name(pg_sys::get_func_namespace(
            function,
        )))?;
        let explicit = if pg_sys::get_func_nargs(function) == 3 {
            format!(", {is_cast}")
        } else {
            String::new()
        };
        Some(format!("{schema}.{name}({value}, {}{explicit})", to.typmod))
    }
}

/// # Safety
/// NULL or a string.
unsafe fn text(name: *const std::ffi::c_char) -> Option<Ident> {
    // SAFETY: the caller's promise.
    let name = (!name.is_null()).then(|| unsafe { CStr::from_ptr(name) })?;
    Some(Ident(name.to_string_lossy().into_owned()))
}

fn read_table(row: &SpiHeapTupleData<'_>) -> Outcome<Archived> {
    Ok(Archived {
        table: Table {
            key: key_columns(row)?,
            archived: true,
            ..plain_table(
                field(row, "oid")?,
                field(row, "shown")?,
                (field(row, "schema")?, field(row, "name")?),
                field(row, "owner")?,
                field(row, "partitioned")?,
            )
        },
        archive: field(row, "archive")?,
        archive_name: Qualified {
            schema: Ident(field(row, "archive_schema")?),
            name: Ident(field(row, "archive_name")?),
        },
        fires: field(row, "fires")?,
        defers: field(row, "defers")?,
        columns: Vec::new(),
        layouts: BTreeMap::new(),
    })
}

/// A table without the marks of those that are kept in place.
pub fn plain_table(
    oid: pg_sys::Oid,
    shown: String,
    (schema, name): (String, String),
    owner: pg_sys::Oid,
    partitioned: bool,
) -> Table {
    Table {
        oid,
        shown,
        name: Qualified {
            schema: Ident(schema),
            name: Ident(name),
        },
        owner,
        managed: false,
        archived: false,
        marks: None,
        deletion_index: None,
        on_plain_delete: None,
        partitions: Vec::new(),
        partitioned,
        is_partition: false,
        may_prevent_update: false,
        key_is_watched: false,
        guards_stand: true,
        columns: Vec::new(),
        key: Vec::new(),
    }
}

fn read_column(row: &SpiHeapTupleData<'_>) -> Outcome<Column> {
    Ok(Column {
        number: field(row, "attnum")?,
        name: Ident(field(row, "name")?),
        not_null: field(row, "not_null")?,
        computed: row.get_by_name("expression")?,
        type_oid: field(row, "type")?,
        type_sql: field(row, "type_sql")?,
        base: field(row, "base")?,
        base_sql: field(row, "base_sql")?,
        typmod: field(row, "typmod")?,
        collation: field(row, "collation")?,
        collate_sql: row.get_by_name("collate_sql")?,
        missing: row.get_by_name("missing")?,
    })
}

/// Prints the expressions of computed columns as they are read where they are evaluated, as the owner of the table: a function in its
/// schema is not taken for one of PostgreSQL's.
fn print_computed(session: &Session<'_, '_>, one: &mut Archived) -> Outcome<()> {
    if one.columns.iter().all(|column| column.computed.is_none()) {
        return Ok(());
    }
    for row in session.catalog_in_schema(&one.table, EXPRESSIONS, &[one.table.oid.into()])? {
        let (number, expression) = (row.get::<i16>(1)?, row.get::<String>(2)?);
        let mut columns = one.columns.iter_mut();
        let column = columns.find(|column| Some(column.number) == number);
        if let (Some(column), Some(expression)) = (column, expression) {
            column.computed = Some(expression);
        }
    }
    Ok(())
}

fn read_kept(row: &SpiHeapTupleData<'_>) -> Outcome<Kept> {
    let conversion: Option<String> = row.get_by_name("conversion")?;
    Ok(Kept {
        name: row.get_by_name::<String, _>("archive_name")?.map(Ident),
        kind: ValueType {
            oid: row.get_by_name("type")?.unwrap_or(pg_sys::InvalidOid),
            sql: row.get_by_name("type_sql")?.unwrap_or_default(),
            typmod: row.get_by_name("typmod")?.unwrap_or(-1),
        },
        collation: row.get_by_name("collation")?.unwrap_or(pg_sys::InvalidOid),
        missing: row.get_by_name("missing")?,
        conversion: conversion.as_deref().and_then(Conversion::parse),
        in_key: row.get_by_name("in_key")?.unwrap_or(false),
    })
}

/// A column of JSON; null where it is NULL.
pub fn read_json(row: &SpiHeapTupleData<'_>, ordinal: usize) -> Outcome<Value> {
    let value = row.get::<JsonB>(ordinal)?;
    Ok(value.map_or(Value::Null, |value| value.0))
}
