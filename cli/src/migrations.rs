//! The migrations of `migrations/`, embedded when this program is built.

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{AssertSqlSafe, SqlSafeStr as _};

/// The schema of the record. Not the one that an application's own runner uses.
pub const SCHEMA: &str = "keepsake_migration";
/// The table of the record: version, time, and checksum of the text.
pub const TABLE: &str = "keepsake_migration.applied";

/// A migration: two scripts.
#[derive(Clone, Copy, Debug)]
pub struct Embedded {
    /// Its number.
    pub version: i64,
    /// Its name.
    pub name: &'static str,
    /// The script that applies it.
    pub up: &'static str,
    /// The script that reverts it.
    pub down: &'static str,
}

macro_rules! embedded {
    ($version:literal, $name:literal, $file:literal) => {
        Embedded {
            version: $version,
            name: $name,
            up: include_str!(concat!("../../migrations/", $file, ".up.sql")),
            down: include_str!(concat!("../../migrations/", $file, ".down.sql")),
        }
    };
}

/// All migrations, in order.
pub const ALL: &[Embedded] = &[embedded!(1, "baseline", "0001_baseline")];

/// The version that they lead to.
#[must_use]
pub fn newest() -> i64 {
    ALL.last().map_or(0, |migration| migration.version)
}

/// What applies them and takes them back.
#[must_use]
pub fn migrator() -> Migrator {
    let migrations = ALL.iter().flat_map(|migration| {
        let of = |kind, sql: &'static str| {
            let sql = AssertSqlSafe(sql).into_sql_str();
            Migration::new(migration.version, migration.name.into(), kind, sql, false)
        };
        [
            of(MigrationType::ReversibleUp, migration.up),
            of(MigrationType::ReversibleDown, migration.down),
        ]
    });
    let mut migrator = Migrator::with_migrations(migrations.collect());
    migrator.create_schema(SCHEMA);
    migrator.dangerous_set_table_name(TABLE);
    migrator
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_the_folder_are_here() {
        let files =
            std::fs::read_dir(keepsake_schema::folder()).expect("migrations/ can be listed");
        let ups = files.filter(|file| {
            file.as_ref()
                .is_ok_and(|file| file.file_name().to_string_lossy().ends_with(".up.sql"))
        });
        assert_eq!(ups.count(), ALL.len(), "add the new migration to ALL");
    }
}
