//! The orders in which several workers of `pg_restore` may load a dump: an entry waits only for those that it depends on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use keepsake_tests::random::Random;

use crate::world::{DATABASE, Server, finish};

struct Entry {
    number: u32,
    line: String,
    /// What pg_dump calls it, with its schema and name: `TABLE DATA public post postgres`.
    what: String,
    needs: BTreeSet<u32>,
}

impl Entry {
    fn is_rows(&self) -> bool {
        self.what.starts_with("TABLE DATA ")
    }
}

/// A list for `pg_restore --use-list`, which loads in that order: tables first, as they stand; then their rows and what comes after, in an order of this
/// seed.
pub fn any_order(server: &Server, dump: &Path, seed: u64) -> Result<String> {
    let mut list = server.program("pg_restore", DATABASE)?;
    let entries = parse(&finish(list.args(["--list", "--verbose"]).arg(dump))?)?;
    let rows = entries.iter().position(Entry::is_rows);
    let (tables, rest) = entries.split_at(rows.context("the dump has no rows")?);
    let ordered = tables.iter().chain(shuffled(rest, seed)?);
    let lines: Vec<&str> = ordered.map(|entry| entry.line.as_str()).collect();
    let path = server.scratch(&format!("order_{seed}.list"))?;
    std::fs::write(&path, lines.join("\n"))?;
    Ok(path.display().to_string())
}

fn shuffled(entries: &[Entry], seed: u64) -> Result<Vec<&Entry>> {
    let mut random = Random::new(seed);
    let mut left: Vec<(u64, &Entry)> = entries.iter().map(|entry| (random.next(), entry)).collect();
    left.sort_unstable_by_key(|(rank, _)| *rank);
    let mut ordered = Vec::new();
    while !left.is_empty() {
        let waiting: BTreeSet<u32> = left.iter().map(|(_, entry)| entry.number).collect();
        let next = left
            .iter()
            .position(|(_, entry)| entry.needs.is_disjoint(&waiting));
        ordered.push(left.remove(next.context("entries wait for each other")?).1);
    }
    Ok(ordered)
}

fn parse(list: &str) -> Result<Vec<Entry>> {
    let mut entries: Vec<Entry> = Vec::new();
    for line in list.lines() {
        if let Some(needs) = line.strip_prefix(";\tdepends on: ") {
            let entry = entries.last_mut().context("nothing depends on that")?;
            let needs = needs.split_whitespace().map(str::parse);
            entry.needs = needs.collect::<Result<_, _>>()?;
        } else if !line.starts_with(';') && !line.trim().is_empty() {
            let (number, rest) = line.split_once("; ").with_context(|| line.to_owned())?;
            entries.push(Entry {
                number: number.parse()?,
                line: line.to_owned(),
                what: rest.splitn(3, ' ').nth(2).unwrap_or_default().to_owned(),
                needs: BTreeSet::new(),
            });
        }
    }
    wait_for_rows(&mut entries);
    ensure!(
        entries.iter().filter(|entry| entry.is_rows()).count() > 8,
        "the dump has no registry"
    );
    Ok(entries)
}

/// What comes after the data waits for the rows of a table, not for the table; so does pg_restore.
fn wait_for_rows(entries: &mut [Entry]) {
    let rows: BTreeMap<u32, u32> = entries
        .iter()
        .filter(|entry| entry.is_rows())
        .flat_map(|entry| entry.needs.iter().map(|table| (*table, entry.number)))
        .collect();
    let Some(last) = entries.iter().rposition(Entry::is_rows) else {
        return;
    };
    for entry in entries.iter_mut().skip(last + 1) {
        let needs = entry.needs.iter();
        entry.needs = needs.map(|need| *rows.get(need).unwrap_or(need)).collect();
    }
}
