//! Entries of a unique index or an exclusion constraint: their parts, and which of them clash.

use pgrx::spi::SpiHeapTupleData;

use crate::graph::catalog::field;
use crate::model::error::Outcome;
use crate::model::sql::{Literal, join};

/// Puts the parts of an index `i`, with the constraint `con`, into a query that names them `ENTRY`.
pub fn with_entry(sql: &str) -> String {
    sql.replace("ENTRY", include_str!("read_entry.sql"))
}

/// What the entries of an index are made of. `keepsake_restored` is the common table expression with the rows that would come
/// back, in which the parts are `keepsake_k1` and so on.
#[derive(Debug)]
pub struct IndexEntry {
    exclusion: bool,
    nulls_equal: bool,
    expressions: Vec<String>,
    operators: Vec<String>,
    collations: Vec<String>,
    /// How entries that clash are found near each other, for each part.
    narrowed_by: Vec<String>,
}

impl IndexEntry {
    /// Reads one from a row of such a query.
    pub fn read(row: &SpiHeapTupleData<'_>) -> Outcome<Self> {
        Ok(Self {
            exclusion: field(row, "exclusion")?,
            nulls_equal: field(row, "nulls_equal")?,
            expressions: field(row, "expressions")?,
            operators: field(row, "operators")?,
            collations: field(row, "collations")?,
            narrowed_by: field(row, "narrowed_by")?,
        })
    }

    /// The kind of a conflict with it.
    pub fn kind(&self) -> &'static str {
        if self.exclusion {
            "exclusion"
        } else {
            "unique"
        }
    }

    /// The parts, computed of a row whose columns have bare names: that is how the catalog prints them.
    pub fn parts(&self) -> String {
        let parts = self.expressions.iter().zip(1..);
        join(
            parts.map(|(expression, n)| format!("({expression}) AS keepsake_k{n}")),
            ", ",
        )
    }

    /// The parts of `keepsake_r` as arguments that make a JSON object of them.
    pub fn values(&self) -> String {
        let parts = self.expressions.iter().zip(1..);
        let values = parts
            .map(|(expression, n)| format!("{}, keepsake_r.keepsake_k{n}", Literal(expression)));
        join(values, ", ")
    }

    /// The condition that an entry with the parts `left` clashes with that of `keepsake_r`: the index's own operators and collations.
    pub fn clash(&self, left: impl Fn(usize, &str) -> String) -> String {
        let terms = self
            .expressions
            .iter()
            .zip(&self.operators)
            .zip(&self.collations)
            .zip(1..)
            .map(|(((expression, operator), collation), n)| {
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

    /// The restored rows that may clash among themselves: those whose key comes twice, or whose ranges may overlap.
    /// PostgreSQL has no statistics of a deletion and would plan the join for one row.
    pub fn candidates(&self) -> String {
        let keys = |how: &'static str| {
            let keys = self.narrowed_by.iter().zip(&self.collations).zip(1..);
            keys.filter(move |((by, _), _)| *by == how)
                .map(|((_, collation), n)| (format!("a.keepsake_k{n}"), collation))
        };
        // Of a unique index every key is compared for equality.
        let equal: Vec<_> = if self.exclusion {
            keys("equal").collect()
        } else {
            let keys = self.collations.iter().zip(1..);
            keys.map(|(collation, n)| (format!("a.keepsake_k{n}"), collation))
                .collect()
        };
        let set = equal.iter().map(|(key, _)| format!("{key} IS NOT NULL"));
        let set = if self.nulls_equal || equal.is_empty() {
            "true".into()
        } else {
            join(set, " AND ")
        };
        let same = equal
            .iter()
            .map(|(key, collation)| format!("{key}{collation}"));
        let same: Vec<String> = same.collect();
        let range = keys("range").next().filter(|_| self.exclusion);
        match range {
            Some((range, _)) => overlapping(&same, &set, &range),
            None if same.is_empty() => "keepsake_restored".into(),
            None => format!(
                "(SELECT n.* FROM (SELECT a.*, pg_catalog.count(*) OVER (PARTITION BY {key}) AS keepsake_n
                                   FROM keepsake_restored AS a WHERE {set}) AS n WHERE n.keepsake_n OPERATOR(pg_catalog.>) 1)",
                key = same.join(", "),
            ),
        }
    }
}

/// Rows with ranges that may overlap another's, among those that have the same other keys: in their order, a range that
/// begins after all before it have ended begins a new group, and the rows of no other group overlap it.
fn overlapping(same: &[String], set: &str, range: &str) -> String {
    let partition = if same.is_empty() {
        String::new()
    } else {
        format!("PARTITION BY {} ", same.join(", "))
    };
    let group = same.iter().cloned().chain(["a.keepsake_group".to_owned()]);
    format!(
        "(SELECT a.* FROM (
             SELECT a.*, pg_catalog.count(*) OVER (PARTITION BY {group}) AS keepsake_n FROM (
                 SELECT a.*, pg_catalog.sum(a.keepsake_begins) OVER ({partition}ORDER BY {range}) AS keepsake_group FROM (
                     SELECT a.*, CASE WHEN pg_catalog.lower_inf({range}) OR pg_catalog.bool_or(pg_catalog.upper_inf({range})) OVER before
                                        OR pg_catalog.lower({range}) OPERATOR(pg_catalog.<=) pg_catalog.max(pg_catalog.upper({range})) OVER before
                                      THEN 0 ELSE 1 END AS keepsake_begins
                     FROM keepsake_restored AS a WHERE {set} AND NOT pg_catalog.isempty({range})
                     WINDOW before AS ({partition}ORDER BY {range} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)) AS a) AS a) AS a
          WHERE a.keepsake_n OPERATOR(pg_catalog.>) 1)",
        group = join(group, ", "),
    )
}
