//! The attachment schema as its files in `migrations/schema` have it, and the migrations that are made from them.
//!
//! A file is a concept: `07_uploads.sql`. What its tables and functions leave behind when they are dropped stands beside it,
//! in `07_uploads.down.sql`, where there is anything. The forms that are read here: an object begins with `CREATE` at
//! the start of a line. A function ends with `$$;` on a line of its own, where its body is quoted; where it is an expression after
//! `RETURN`, with the first line that ends with `;`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

const BASELINE: &str = "0001_baseline";
const GENERATED: &str = "-- Made by `cargo run -p keepsake-schema -- baseline` from migrations/schema: change those files.\n";

/// The folder `migrations/` of this checkout.
#[must_use]
pub fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file of `migrations/schema`.
#[derive(Clone, Debug)]
pub struct Part {
    /// Its name, such as `07_uploads.sql`.
    pub name: String,
    /// What it creates.
    pub up: String,
    /// What has to be done before its objects are dropped.
    pub down: String,
}

/// A migration as two texts.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Migration {
    /// What it does.
    pub up: String,
    /// What takes it back.
    pub down: String,
}

/// A function as a file defines it.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Function {
    name: String,
    /// From `CREATE FUNCTION` to the line that ends it.
    text: String,
}

/// The files of `migrations/schema`, in their order.
///
/// # Errors
/// A file cannot be read.
pub fn parts(folder: &Path) -> Result<Vec<Part>> {
    let schema = folder.join("schema");
    sql_files(&schema)?
        .into_iter()
        .filter(|name| !name.ends_with(".down.sql"))
        .map(|name| {
            let down = schema.join(name.replace(".sql", ".down.sql"));
            Ok(Part {
                up: read(&schema.join(&name))?,
                down: if down.exists() {
                    read(&down)?
                } else {
                    String::new()
                },
                name,
            })
        })
        .collect()
}

/// All of the schema as one migration.
#[must_use]
pub fn baseline(parts: &[Part]) -> Migration {
    let mut up = GENERATED.to_owned();
    let mut down = GENERATED.to_owned();
    for part in parts {
        up += &format!(
            "\n-- {} ---------------------------------------------\n\n{}",
            part.name, part.up
        );
    }
    for part in parts.iter().rev() {
        down += &format!("\n-- {}\n{}", part.name, part.down);
        for line in part.up.lines().rev() {
            down += &drop_of(line).unwrap_or_default();
        }
    }
    Migration { up, down }
}

/// What drops the object that a line begins to create. Indexes and policies go with their table, and the extension stays.
fn drop_of(line: &str) -> Option<String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let ["CREATE", kind, name, ..] = words.as_slice() else {
        return None;
    };
    let name = name.split('(').next()?.trim_end_matches(';');
    match *kind {
        "FUNCTION" | "TABLE" | "VIEW" | "TYPE" | "SCHEMA" => Some(format!("DROP {kind} {name};\n")),
        "TRIGGER" => {
            let table = words.iter().skip_while(|word| **word != "ON").nth(1)?;
            Some(format!("DROP TRIGGER {name} ON {table};\n"))
        }
        _ => None,
    }
}

/// Writes the baseline, until another migration follows it: from then on it has been released.
///
/// # Errors
/// The baseline was released, or a file cannot be read or written.
pub fn write_baseline(folder: &Path) -> Result<()> {
    ensure!(
        migrations(folder)?.len() <= 1,
        "{BASELINE} was released: make a migration with `cargo run -p keepsake-schema -- migration NAME`"
    );
    write(folder, BASELINE, &baseline(&parts(folder)?))
}

/// Whether the migrations give what the files have: the baseline word for word while it is the only one, then the
/// functions. That the tables agree, too, is proved by `tests/tests/migrations.rs` on a database.
///
/// # Errors
/// They do not, or a file cannot be read.
pub fn check(folder: &Path) -> Result<()> {
    let parts = parts(folder)?;
    let migrations = migrations(folder)?;
    if let [only] = migrations.as_slice() {
        ensure!(
            *only == baseline(&parts),
            "migrations/{BASELINE} is not what migrations/schema gives: run `cargo run -p keepsake-schema -- baseline`"
        );
        return Ok(());
    }
    let changes = Changes::between(&migrations, &parts);
    ensure!(
        changes.is_empty(),
        "functions differ between migrations/schema and the newest migration that has them: {}\n\
         run `cargo run -p keepsake-schema -- migration NAME`",
        changes.names().join(", ")
    );
    Ok(())
}

/// Writes the migration that follows: functions that changed are re-created, and what else changed is added by hand.
/// Answers with its name.
///
/// # Errors
/// The name is no name for a file, or a file cannot be read or written.
pub fn write_migration(folder: &Path, name: &str) -> Result<String> {
    ensure!(
        !name.is_empty()
            && name
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'),
        "name the migration in lower-case letters, digits and underscores, such as add_thumbnails"
    );
    let migrations = migrations(folder)?;
    let name = format!("{:04}_{name}", migrations.len() + 1);
    write(
        folder,
        &name,
        &Changes::between(&migrations, &parts(folder)?).migration(),
    )?;
    Ok(name)
}

/// How the functions of the files differ from those of the migrations.
#[derive(Debug, Default)]
struct Changes {
    changed: Vec<(Function, Function)>,
    added: Vec<Function>,
    removed: Vec<Function>,
}

impl Changes {
    fn between(migrations: &[Migration], parts: &[Part]) -> Self {
        let mut before: BTreeMap<String, Function> = BTreeMap::new();
        for migration in migrations {
            for name in dropped(&migration.up) {
                before.remove(name);
            }
            before.extend(
                functions(&migration.up)
                    .into_iter()
                    .map(|f| (f.name.clone(), f)),
            );
        }
        let mut changes = Self::default();
        for now in parts.iter().flat_map(|part| functions(&part.up)) {
            match before.remove(&now.name) {
                Some(then) if then == now => {}
                Some(then) => changes.changed.push((then, now)),
                None => changes.added.push(now),
            }
        }
        changes.removed = before.into_values().collect();
        changes
    }

    fn is_empty(&self) -> bool {
        self.names().is_empty()
    }

    fn names(&self) -> Vec<&str> {
        let changed = self.changed.iter().map(|(_, now)| now);
        let all = changed.chain(&self.added).chain(&self.removed);
        all.map(|function| function.name.as_str()).collect()
    }

    fn migration(&self) -> Migration {
        let mut up = "-- Changes of tables are written here, before the functions that use them.\n"
            .to_owned();
        let mut down =
            "-- The changes of tables are taken back here, after the functions that use them.\n"
                .to_owned()
                + PLAN;
        for (then, now) in &self.changed {
            up += &format!("\n{}\n", replacing(now));
            down = format!("{}\n\n{down}", replacing(then));
        }
        for function in &self.added {
            up += &format!(
                "\n-- New: add the REVOKE and GRANT that its file has.\n{}\n",
                function.text
            );
            down = format!("DROP FUNCTION {};\n\n{down}", function.name);
        }
        for function in &self.removed {
            up += &format!("\nDROP FUNCTION {};\n", function.name);
            down = format!(
                "-- Add the REVOKE and GRANT that it had.\n{}\n\n{down}",
                function.text
            );
        }
        up += PLAN;
        Migration { up, down }
    }
}

/// Functions that are written by functions of the schema are written anew by each migration.
const PLAN: &str =
    "\n-- What finds entities, as it is written now.\nSELECT attachments.plan_lookups();\n";

fn replacing(function: &Function) -> String {
    function
        .text
        .replacen("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION", 1)
}

/// The functions that a text defines. Comments around them do not count.
fn functions(sql: &str) -> Vec<Function> {
    let mut found = Vec::new();
    let mut open: Option<Function> = None;
    for line in sql.lines() {
        let line = line.replacen("CREATE OR REPLACE FUNCTION", "CREATE FUNCTION", 1);
        if let Some(rest) = line.strip_prefix("CREATE FUNCTION ") {
            let name = rest.split('(').next().unwrap_or_default().to_owned();
            open = Some(Function {
                name,
                text: String::new(),
            });
        }
        if let Some(function) = &mut open {
            function.text += &line;
            if ends_function(&line, &function.text) {
                found.extend(open.take());
            } else {
                function.text.push('\n');
            }
        }
    }
    found
}

/// Whether a function, of which this is the text so far, ends with this line.
fn ends_function(line: &str, text: &str) -> bool {
    if text.contains("$$") {
        line == "$$;"
    } else {
        line.ends_with(';')
    }
}

/// The functions that a text drops.
fn dropped(sql: &str) -> impl Iterator<Item = &str> {
    let names = sql
        .lines()
        .filter_map(|line| line.strip_prefix("DROP FUNCTION "));
    names.map(|rest| rest.split(['(', ';']).next().unwrap_or_default())
}

/// The migrations there are, in their order. Each number follows the one before.
fn migrations(folder: &Path) -> Result<Vec<Migration>> {
    let ups = sql_files(folder)?
        .into_iter()
        .filter_map(|name| name.strip_suffix(".up.sql").map(str::to_owned));
    ups.enumerate()
        .map(|(place, name)| {
            if !name.starts_with(&format!("{:04}_", place + 1)) {
                bail!(
                    "migrations/{name}.up.sql should have the number {:04}",
                    place + 1
                );
            }
            Ok(Migration {
                up: read(&folder.join(format!("{name}.up.sql")))?,
                down: read(&folder.join(format!("{name}.down.sql")))?,
            })
        })
        .collect()
}

fn sql_files(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in
        fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?
    {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".sql") {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn write(folder: &Path, name: &str, migration: &Migration) -> Result<()> {
    for (kind, text) in [("up", &migration.up), ("down", &migration.down)] {
        let path: PathBuf = folder.join(format!("{name}.{kind}.sql"));
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(up: &str) -> Part {
        Part {
            name: "01_test.sql".to_owned(),
            up: up.to_owned(),
            down: String::new(),
        }
    }

    fn function(name: &str, body: &str) -> String {
        format!(
            "CREATE FUNCTION {name}() RETURNS integer\nLANGUAGE sql AS $$\n    SELECT {body}\n$$;\n"
        )
    }

    #[test]
    fn the_baseline_drops_in_reverse_what_it_creates() {
        let made = baseline(&[part(
            "CREATE SCHEMA a;\nCREATE TABLE a.b (\n);\nCREATE INDEX i ON a.b (c);\nCREATE TRIGGER t AFTER UPDATE ON a.b\n    EXECUTE FUNCTION a.f();\n",
        )]);
        let drops: Vec<&str> = made
            .down
            .lines()
            .filter(|line| line.starts_with("DROP"))
            .collect();
        assert_eq!(
            drops,
            [
                "DROP TRIGGER t ON a.b;",
                "DROP TABLE a.b;",
                "DROP SCHEMA a;"
            ]
        );
    }

    #[test]
    fn a_migration_re_creates_what_changed_and_takes_it_back() {
        let first = baseline(&[part(
            &(function("a.same", "1") + &function("a.other", "1") + &function("a.gone", "1")),
        )]);
        let now =
            part(&(function("a.same", "1") + &function("a.other", "2") + &function("a.new", "1")));
        let changes = Changes::between(&[first], &[now]);
        assert_eq!(changes.names(), ["a.other", "a.new", "a.gone"]);
        let made = changes.migration();
        assert!(made.up.contains("CREATE OR REPLACE FUNCTION a.other() RETURNS integer\nLANGUAGE sql AS $$\n    SELECT 2\n"), "{}", made.up);
        assert!(made.up.contains("DROP FUNCTION a.gone;"), "{}", made.up);
        assert!(made.down.contains("CREATE OR REPLACE FUNCTION a.other() RETURNS integer\nLANGUAGE sql AS $$\n    SELECT 1\n"), "{}", made.down);
        assert!(made.down.contains("DROP FUNCTION a.new;"), "{}", made.down);
    }

    #[test]
    fn a_function_of_one_expression_is_one_like_the_others() {
        let expression = |name: &str, body: &str| {
            format!(
                "CREATE FUNCTION {name}() RETURNS integer\nLANGUAGE sql STABLE\nRETURN CASE WHEN true\n    THEN {body} END;\n\nCOMMENT ON FUNCTION {name} IS 'What; it does';\n"
            )
        };
        let text = |body: &str| {
            expression("a.first", body) + &function("a.quoted", body) + &expression("a.last", "1")
        };
        let first = baseline(&[part(&text("1"))]);
        let now = [part(&text("2"))];
        let changes = Changes::between(std::slice::from_ref(&first), &now);
        assert_eq!(changes.names(), ["a.first", "a.quoted"]);
        let second = changes.migration();
        let ended = "CREATE OR REPLACE FUNCTION a.first() RETURNS integer\nLANGUAGE sql STABLE\nRETURN CASE WHEN true\n    THEN 2 END;\n\nCREATE OR REPLACE FUNCTION a.quoted()";
        assert!(second.up.contains(ended), "{}", second.up);
        assert!(second.down.contains("THEN 1 END;\n"), "{}", second.down);
        assert!(Changes::between(&[first, second], &now).is_empty());
    }

    #[test]
    fn every_function_of_the_schema_is_known() {
        let parts = parts(folder()).unwrap();
        let of = |part: &Part| {
            let begun = part
                .up
                .lines()
                .filter_map(|line| line.strip_prefix("CREATE FUNCTION "));
            begun
                .filter_map(|rest| rest.split('(').next().map(str::to_owned))
                .collect::<Vec<_>>()
        };
        let begun: Vec<String> = parts.iter().flat_map(of).collect();
        let known = parts.iter().flat_map(|part| functions(&part.up));
        assert_eq!(known.map(|known| known.name).collect::<Vec<_>>(), begun);
    }

    #[test]
    fn a_migration_writes_anew_what_the_schema_writes() {
        let made = Changes::default().migration();
        for text in [made.up, made.down] {
            assert!(
                text.ends_with("\nSELECT attachments.plan_lookups();\n"),
                "{text}"
            );
        }
    }

    #[test]
    fn what_a_migration_re_created_has_not_changed() {
        let first = baseline(&[part(&function("a.b", "1"))]);
        let now = [part(&function("a.b", "2"))];
        let second = Changes::between(std::slice::from_ref(&first), &now).migration();
        assert!(Changes::between(&[first, second], &now).is_empty());
    }
}
