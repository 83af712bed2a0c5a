//! Who takes part, and the tables that each case begins with.

use keepsake_tests::random::Random;

/// A role, and what it may be asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Owns the schema `sa`, and does with it what it likes.
    OwnerA,
    /// Owns the schema `sb`, whose tables may refer to those of the other.
    OwnerB,
    /// Reads and writes the rows of both.
    Application,
    /// Purges, and calls nothing but Keepsake.
    Worker,
    /// A superuser, who calls nothing but Keepsake, so that no owner's code ever runs as one.
    Operator,
    /// Was granted nothing.
    Nobody,
}

impl Role {
    pub const fn name(self) -> &'static str {
        match self {
            Self::OwnerA => "fuzz_a",
            Self::OwnerB => "fuzz_b",
            Self::Application => "fuzz_app",
            Self::Worker => "fuzz_worker",
            Self::Operator => "fuzz_operator",
            Self::Nobody => "fuzz_nobody",
        }
    }

    /// The schema that it owns.
    pub const fn schema(self) -> Option<&'static str> {
        match self {
            Self::OwnerA => Some("sa"),
            Self::OwnerB => Some("sb"),
            _ => None,
        }
    }

    /// Whether code of an owner's that runs as this role has got further than it may.
    pub const fn only_calls(self) -> bool {
        matches!(self, Self::Worker | Self::Operator | Self::Nobody)
    }
}

/// Owns the schema `sc`, has no session, and granted nobody anything: nothing there may ever change.
pub const BYSTANDER: &str = "fuzz_c";

/// Tables that an owner has. `p` is partitioned, `j` is not managed and has no key.
pub const TABLES: [&str; 5] = ["t0", "t1", "t2", "t3", "p"];
pub const PARTS: [&str; 3] = ["p_1", "p_2", "p_3"];

/// What the tables are like at first.
#[derive(Clone, Debug)]
pub struct World {
    pub seed: u64,
    pub preloaded: bool,
    /// Whether deleted rows go to archives, and do not stay in their tables.
    pub archives: bool,
}

impl World {
    pub fn random(random: &mut Random) -> Self {
        Self {
            seed: random.next(),
            preloaded: !random.one_in(4),
            archives: false,
        }
    }

    /// What a database has that is not copied with it; run by a superuser.
    pub fn database(&self, name: &str) -> Vec<String> {
        let mut sql = vec![format!(
            "GRANT CREATE, TEMPORARY ON DATABASE {name} TO PUBLIC"
        )];
        if self.preloaded {
            sql.push(format!(
                "ALTER DATABASE {name} SET session_preload_libraries = 'keepsake'"
            ));
        }
        sql
    }

    /// Run by a superuser in the new database.
    pub fn grants(&self) -> Vec<String> {
        let random = &mut Random::new(self.seed);
        let mut sql = vec![
            "GRANT EXECUTE ON ALL ROUTINES IN SCHEMA keepsake TO fuzz_worker".to_owned(),
            "GRANT SELECT ON ALL TABLES IN SCHEMA keepsake TO fuzz_worker".to_owned(),
            // Foreign tables that can be made, but not read.
            "CREATE FOREIGN DATA WRAPPER nothing".to_owned(),
            "CREATE SERVER nowhere FOREIGN DATA WRAPPER nothing".to_owned(),
            "GRANT USAGE ON FOREIGN SERVER nowhere TO PUBLIC".to_owned(),
        ];
        if !random.one_in(4) {
            sql.push(
                "GRANT SELECT ON keepsake.deletion, keepsake.deletion_table, keepsake.hold TO PUBLIC"
                    .to_owned(),
            );
        }
        if random.one_in(2) {
            sql.push("GRANT EXECUTE ON FUNCTION keepsake.bind_storage TO PUBLIC".to_owned());
        }
        if random.one_in(2) {
            sql.push(
                "GRANT EXECUTE ON FUNCTION keepsake.purge_deletion, keepsake.purge_batch TO fuzz_b"
                    .to_owned(),
            );
        }
        for schema in ["sa", "sb", "sc"] {
            let owner = format!("fuzz_{}", &schema[1..]);
            sql.push(format!("CREATE SCHEMA {schema} AUTHORIZATION {owner}"));
        }
        sql
    }

    /// Run by the owner of a schema.
    pub fn tables(&self, role: Role) -> Vec<String> {
        let random = &mut Random::new(self.seed ^ role as u64);
        let Some(schema) = role.schema() else {
            return Vec::new();
        };
        let mut sql = vec![
            format!("GRANT USAGE ON SCHEMA {schema} TO PUBLIC"),
            format!(
                "ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO fuzz_app"
            ),
            format!("CREATE TABLE {schema}.j (id int, k int, up int, label text, n int)"),
        ];
        for table in TABLES {
            sql.extend(make_table(random, schema, table));
        }
        sql.push(format!(
            "GRANT SELECT, REFERENCES, TRIGGER ON ALL TABLES IN SCHEMA {schema} TO PUBLIC"
        ));
        for table in TABLES {
            sql.extend(if self.archives {
                archive(random, schema, table)
            } else {
                manage(random, schema, table)
            });
            sql.push(fill(schema, table));
        }
        match role {
            Role::OwnerA => sql.push("GRANT CREATE ON SCHEMA sa TO fuzz_b".to_owned()),
            _ => sql.extend(guests(self.archives)),
        }
        sql
    }

    /// The bystander's, run by him.
    pub fn bystanders(&self) -> Vec<String> {
        [
            "CREATE TABLE sc.t0 (id int PRIMARY KEY, label text)",
            "CREATE TABLE sc.t1 (id int PRIMARY KEY, up int REFERENCES sc.t0 ON DELETE CASCADE, label text)",
            "SELECT keepsake.manage('sc.t0', '200000 years'), keepsake.manage('sc.t1', '200000 years')",
            "INSERT INTO sc.t0 SELECT n, 'row ' || n FROM generate_series(1, 4) AS n",
            "INSERT INTO sc.t1 SELECT n, n, 'row ' || n FROM generate_series(1, 4) AS n",
            "SELECT keepsake.soft_delete('sc.t0', 1), keepsake.soft_delete('sc.t1', 2)",
        ]
        .map(str::to_owned)
        .to_vec()
    }

    /// What works for the bystander, and for a superuser who has nothing to do with anybody, whatever the owners did.
    pub const UNDISTURBED: &str = "
        BEGIN;
        SET SESSION AUTHORIZATION fuzz_c;
        INSERT INTO sc.t0 VALUES (7, 'new');
        INSERT INTO sc.t1 VALUES (7, 7, 'new');
        DELETE FROM sc.t0 WHERE id IN (3, 7);
        SELECT keepsake.restore(deletion_id) FROM sc.t0 WHERE id = 3;
        SELECT keepsake.soft_delete('sc.t1', 4);
        RESET SESSION AUTHORIZATION;
        CREATE TABLE public.innocent (id int PRIMARY KEY);
        ALTER TABLE public.innocent ADD n int;
        SELECT count(*) FROM keepsake.metrics;
        ROLLBACK;";
}

/// A table in another owner's schema, who may drop it, but has no rights on it.
fn guests(archives: bool) -> Vec<String> {
    let manage = "SELECT keepsake.manage('sa.guest', '0')";
    let refer = "ALTER TABLE sa.guest ADD FOREIGN KEY (up) REFERENCES sa.t0 ON DELETE CASCADE";
    // Nothing may cascade from an archived row into a table that is not managed.
    let [first, second] = if archives {
        [
            "SELECT keepsake.manage('sa.guest', '0', keep => 'archive')",
            refer,
        ]
    } else {
        [refer, manage]
    };
    [
        "CREATE TABLE sa.guest (id int PRIMARY KEY, k int, up int, label text, n int)",
        "GRANT SELECT ON sa.guest TO fuzz_a",
        first,
        second,
        "INSERT INTO sa.guest (id, up, label) SELECT n, n, 'row ' || n FROM generate_series(1, 6) AS n",
    ]
    .map(str::to_owned)
    .to_vec()
}

/// A table, with a reference to the one before it or to itself.
pub fn make_table(random: &mut Random, schema: &str, table: &str) -> Vec<String> {
    let action = random.weighted(&[
        (6, "ON DELETE CASCADE"),
        (1, "ON DELETE SET NULL"),
        (1, "ON DELETE RESTRICT"),
        (1, "ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED"),
        (1, "ON DELETE SET DEFAULT"),
        (1, ""),
    ]);
    let kind = random.weighted(&[(6, "int"), (1, "text"), (1, "bigint"), (1, "numeric")]);
    let reference = |parent: &str| format!("REFERENCES {schema}.{parent} {action}");
    let (kind, up) = match table {
        "t1" => ("int", reference("t0")),
        "t2" => ("int", reference("t1")),
        "t3" => ("int", reference("t3")),
        "p" => ("int", reference("t0")),
        "t0" => ("int", String::new()),
        _ => (kind, String::new()),
    };
    let columns = format!(
        "id {kind} NOT NULL, k int NOT NULL DEFAULT 1, up int {up}, label text, n int DEFAULT 0"
    );
    if table == "p" {
        return vec![
            format!(
                "CREATE TABLE {schema}.p ({columns}, PRIMARY KEY (id, k)) PARTITION BY LIST (k)"
            ),
            format!("CREATE TABLE {schema}.p_1 PARTITION OF {schema}.p FOR VALUES IN (1)"),
            format!("CREATE TABLE {schema}.p_2 PARTITION OF {schema}.p FOR VALUES IN (2, 3)"),
        ];
    }
    vec![format!(
        "CREATE TABLE {schema}.{table} ({columns}, PRIMARY KEY (id))"
    )]
}

pub fn manage(random: &mut Random, schema: &str, table: &str) -> Vec<String> {
    let policy = random.weighted(&[(5, "convert"), (1, "reject"), (1, "allow")]);
    let retention = random.one_of(&["0", "30 days", "0"]);
    vec![format!(
        "SELECT keepsake.manage('{schema}.{table}', '{retention}', '{policy}')"
    )]
}

/// The same as an archive, with the tables that would lose rows by a foreign key.
pub fn archive(random: &mut Random, schema: &str, table: &str) -> Vec<String> {
    let truncate = random.one_of(&["reject", "archive", "allow"]);
    let retention = random.one_of(&["0", "30 days", "0"]);
    vec![format!(
        "SELECT keepsake.manage('{schema}.{table}', '{retention}', keep => 'archive', on_truncate => '{truncate}', cascade => true)"
    )]
}

pub fn fill(schema: &str, table: &str) -> String {
    format!(
        "INSERT INTO {schema}.{table} (id, k, up, label) SELECT n, 1 + n % 2, n, 'row ' || n FROM generate_series(1, 6) AS n"
    )
}
