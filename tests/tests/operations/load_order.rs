//! The orders in which several workers of `pg_restore` may load a dump: an entry waits only for those that it depends on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use crate::world::{DATABASE, Server, finish};

struct Entry {
    number: u32,
    line: String,
    /// What pg_dump calls it, with its schema and name: `TABLE DATA public post postgres`.
    what: String,
    needs: BTreeSet<u32>,
}

/// Lists for `pg_restore --use-list`, one for the rows of each table: they, and what waits for them, come behind everything else.
pub fn with_one_last(server: &Server, dump: &Path) -> Result<Vec<(String, String)>> {
    let mut list = server.program("pg_restore", DATABASE)?;
    let entries = parse(&finish(list.args(["--list", "--verbose"]).arg(dump))?)?;
    let mut lists = Vec::new();
    for late in &entries {
        let Some(table) = late.what.strip_prefix("TABLE DATA ") else {
            continue;
        };
        let name = table.split(' ').take(2).collect::<Vec<_>>().join("_");
        let waiting = waiting_for(late, &entries);
        let (last, first): (Vec<&Entry>, Vec<&Entry>) = entries
            .iter()
            .partition(|entry| waiting.contains(&entry.number));
        let ordered: Vec<&str> = first
            .iter()
            .chain(&last)
            .map(|entry| entry.line.as_str())
            .collect();
        let path = server.scratch(&format!("{name}.list"))?;
        std::fs::write(&path, ordered.join("\n"))?;
        lists.push((name, path.display().to_string()));
    }
    ensure!(lists.len() > 8, "the dump has no registry");
    Ok(lists)
}

fn parse(list: &str) -> Result<Vec<Entry>> {
    let mut entries: Vec<Entry> = Vec::new();
    for line in list.lines() {
        if let Some(needs) = line.strip_prefix(";\tdepends on: ") {
            let entry = entries.last_mut().context("nothing depends on that")?;
            entry.needs = needs
                .split_whitespace()
                .map(str::parse)
                .collect::<Result<_, _>>()?;
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
    Ok(entries)
}

/// What comes after the data waits for the rows of a table, not for the table; so does pg_restore.
fn wait_for_rows(entries: &mut [Entry]) {
    let is_rows = |entry: &Entry| entry.what.starts_with("TABLE DATA ");
    let rows: BTreeMap<u32, u32> = entries
        .iter()
        .filter(|entry| is_rows(entry))
        .flat_map(|entry| entry.needs.iter().map(|table| (*table, entry.number)))
        .collect();
    let Some(last) = entries.iter().rposition(is_rows) else {
        return;
    };
    for entry in entries.iter_mut().skip(last + 1) {
        entry.needs = entry
            .needs
            .iter()
            .map(|need| *rows.get(need).unwrap_or(need))
            .collect();
    }
}

/// The entry and all that depends on it.
fn waiting_for(late: &Entry, entries: &[Entry]) -> BTreeSet<u32> {
    let mut waiting = BTreeSet::from([late.number]);
    loop {
        let before = waiting.len();
        let more = entries
            .iter()
            .filter(|entry| !entry.needs.is_disjoint(&waiting))
            .map(|entry| entry.number);
        waiting.extend(more.collect::<Vec<_>>());
        if waiting.len() == before {
            return waiting;
        }
    }
}
