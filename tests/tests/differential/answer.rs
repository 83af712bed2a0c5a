//! What psql says to the steps of a script, and in what two answers to a step may differ.

use crate::schema::PARTS;

/// Before each step, alone on its line.
pub const MARK: &str = "=#= ";

/// The answers to the steps, in their order.
pub fn answers(said: &str) -> Vec<&str> {
    said.split(MARK)
        .skip(1)
        .map(|answer| answer.split_once('\n').map_or("", |(_, answer)| answer))
        .collect()
}

/// Whether two answers differ in more than the order of their lines: rows come in no order that is promised. Nor are the numbers that a session
/// gives its portals, nor which of several foreign keys a DETACH of a partition meets first.
pub fn is_different(expected: Option<&str>, seen: Option<&str>) -> bool {
    const DETACHED: &str = "ERROR:  23503: removing partition ";
    let is_refused_detach =
        |answer: Option<&str>| answer.is_some_and(|said| said.starts_with(DETACHED));
    if is_refused_detach(expected) && is_refused_detach(seen) {
        return false;
    }
    let sorted = |answer: Option<&str>| {
        let lines = answer.unwrap_or("nothing").lines();
        let mut lines: Vec<String> = lines
            .map(|line| match line.split_once("\"<unnamed portal ") {
                Some((before, after)) => {
                    let after = after.trim_start_matches(|c: char| c.is_ascii_digit());
                    format!("{before}\"<unnamed portal {after}")
                }
                None => line.to_owned(),
            })
            .collect();
        lines.sort_unstable();
        lines
    };
    sorted(expected) != sorted(seen)
}

/// An answer without what `docs/compatibility.md` lists as different where rows are kept in place: of a foreign key's error the text,
/// whose SQLSTATE, schema, table and constraint stay; of a unique key's or a check's the values, which PostgreSQL leaves out under
/// policies; and where an error comes from.
pub fn without_documented(answer: &str) -> String {
    let mut kept = Vec::new();
    let mut in_text = false;
    // Rows stand elsewhere, so that one that is refused may be met before others.
    let first = answer.lines().position(|line| line.contains("ERROR:"));
    for line in answer.lines().skip(first.unwrap_or(0)) {
        let is_field = ["SCHEMA NAME:", "TABLE NAME:", "CONSTRAINT NAME:"]
            .iter()
            .any(|field| line.starts_with(field));
        let has_values =
            line.starts_with("DETAIL:  Key (") || line.starts_with("DETAIL:  Failing row contains");
        // Rows stand elsewhere.
        if has_values || line.contains(" tuple (") {
            continue;
        }
        if line.starts_with("LOCATION:") {
            in_text = false;
        } else if let Some(code) = ["ERROR:  23503:", "ERROR:  23001:"]
            .iter()
            .find(|code| line.contains(**code))
        {
            in_text = true;
            kept.push((*code).to_owned());
        } else if line.contains("ERROR:  27000: tuple to be ") {
            // The DELETE is an UPDATE to the executor.
            kept.push(line.replace("tuple to be deleted", "tuple to be updated"));
        } else if is_field || !in_text {
            kept.push(of_whole_table(line));
        }
    }
    kept.join("\n")
}

/// Whether one side refuses a statement because a trigger of one of its parts has changed a row that another part was to change: which comes
/// first is the plan's choice, and plans differ. Or Keepsake because it cannot tell rows that a MERGE moves from those that it deletes.
pub fn is_known_refusal(sql: &str, expected: Option<&str>, seen: Option<&str>) -> bool {
    let refused = "ERROR:  0A000: cannot update and delete rows of partitioned table";
    if sql.starts_with("MERGE ") && seen.is_some_and(|answer| answer.contains(refused)) {
        return true;
    }
    let changed = |answer: Option<&str>| {
        answer.is_some_and(|said| said.contains("ERROR:  27000: tuple to be "))
    };
    sql.starts_with("WITH ") && changed(expected) != changed(seen)
}

/// A line with the name of a table for that of its partition, and that of a foreign key for its copy: PostgreSQL names the one for the
/// parent's partition, as `t1_up0_fkey2` or, on 18, `key0_2`, where Keepsake names the key itself, `key0`.
fn of_whole_table(line: &str) -> String {
    let key_of = |part: &str| {
        let numbers = part
            .trim()
            .strip_prefix("key")
            .and_then(|part| part.split_once('_'));
        if let Some((number, _)) = numbers {
            return Some(format!("key{number}"));
        }
        let (copy, _) = part.rsplit_once("_fkey")?;
        let (_, columns) = copy.split_once("_up")?;
        let number: String = columns.chars().take_while(char::is_ascii_digit).collect();
        Some(format!("key{number}"))
    };
    if line.starts_with("TABLE NAME:") {
        return whole(line).to_owned();
    }
    if let Some(name) = line.strip_prefix("CONSTRAINT NAME:") {
        let key = key_of(name).unwrap_or_else(|| name.trim().to_owned());
        return format!("CONSTRAINT NAME:  {key}");
    }
    let parts = line.split('|');
    let parts: Vec<String> = parts
        .map(|part| match part {
            _ if line.contains("NOTICE:") => key_of(part).unwrap_or_else(|| whole(part).to_owned()),
            _ => part.to_owned(),
        })
        .collect();
    parts.join("|")
}

/// The name of the table that a partition belongs to.
fn whole(name: &str) -> &str {
    PARTS
        .iter()
        .find_map(|part| name.strip_suffix(part))
        .unwrap_or(name)
}

/// The table and the number of the foreign key that refuses a statement, or what a block caught first.
pub fn refusing_key(error: &str) -> Option<(&str, usize)> {
    let codes = ["23503", "23001"];
    let caught = codes.map(|code| format!("NOTICE:  00000: {code}|key"));
    for line in error.lines() {
        if let Some(fields) = caught.iter().find_map(|caught| line.strip_prefix(caught)) {
            let mut fields = fields.split('|');
            let key = fields.next()?.parse().ok()?;
            return Some((fields.next()?, key));
        }
    }
    if !codes
        .iter()
        .any(|code| error.contains(&format!("ERROR:  {code}:")))
    {
        return None;
    }
    let field = |name: &str| error.lines().find_map(|line| line.strip_prefix(name));
    let key = field("CONSTRAINT NAME:  key")?.parse().ok()?;
    Some((field("TABLE NAME:  ")?, key))
}

/// Whether a foreign key or a policy refuses the statement. Of several reasons, the two sides may come to another one first.
pub fn is_refused(answer: Option<&str>) -> bool {
    let reasons = ["ERROR:  23503:", "ERROR:  23001:", "ERROR:  42501:"];
    answer.is_some_and(|answer| reasons.iter().any(|reason| answer.contains(reason)))
}

/// An answer in which what a block caught says no more than that a foreign key or a policy refused it.
pub fn refusals(answer: Option<&str>) -> Option<String> {
    let line = |line: &str| {
        let codes = [
            "NOTICE:  00000: 23503|",
            "NOTICE:  00000: 23001|",
            "NOTICE:  00000: 42501|",
        ];
        let refuses = codes.iter().any(|code| line.contains(code));
        if refuses { "refused" } else { line }.to_owned()
    };
    Some(answer?.lines().map(line).collect::<Vec<_>>().join("\n"))
}
