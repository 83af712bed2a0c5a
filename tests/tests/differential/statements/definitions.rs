//! Changes to the tables' definitions, which must neither fail nor look different because rows are kept.

use super::Writer;

impl Writer<'_> {
    pub fn definition(&mut self) -> Vec<String> {
        let number = self.table_number();
        let table = &self.schema.tables[number];
        let name = table.name;
        let own = "SET ROLE difference_owner;".to_owned();
        let change = match self.random.below(32) {
            0 => vec![format!(
                "ALTER TABLE {name} ADD COLUMN IF NOT EXISTS later int DEFAULT 7;"
            )],
            1 => vec![format!(
                "ALTER TABLE {name} ADD COLUMN IF NOT EXISTS later2 text NOT NULL DEFAULT 'x' || random()::int * 0;"
            )],
            2 => vec![format!(
                "ALTER TABLE {name} DROP COLUMN IF EXISTS {};",
                self.random
                    .one_of(&["later", "later2", "label", "doc", "big", "up0"])
            )],
            3 => vec![format!("ALTER TABLE {name} ALTER COLUMN n TYPE bigint;")],
            4 if !table.references.is_empty() => vec![format!(
                "ALTER TABLE {name} ALTER COLUMN up0 TYPE {};",
                self.random.one_of(&["bigint", "int"])
            )],
            5 => vec![
                format!("ALTER TABLE {name} RENAME COLUMN label TO title;"),
                self.removal(),
                format!("ALTER TABLE {name} RENAME COLUMN title TO label;"),
            ],
            6 => vec![
                format!("ALTER TABLE {name} RENAME TO renamed;"),
                format!("DELETE FROM renamed WHERE id = {};", self.number()),
                format!("ALTER TABLE renamed RENAME TO {name};"),
            ],
            7 => vec![
                "CREATE SCHEMA IF NOT EXISTS other;".to_owned(),
                format!("ALTER TABLE {name} SET SCHEMA other;"),
                format!("DELETE FROM other.{name} WHERE id = {};", self.number()),
                format!("ALTER TABLE other.{name} SET SCHEMA public;"),
            ],
            8 => vec![format!("CREATE INDEX ON {name} (n);")],
            9 => vec![format!(
                "ALTER TABLE {name} DROP CONSTRAINT IF EXISTS key0;"
            )],
            10 if !table.references.is_empty() => {
                vec![self.schema.add_foreign_key(number, 0) + ";"]
            }
            11 => vec![
                format!("ALTER TABLE {name} DISABLE TRIGGER USER;"),
                self.delete() + ";",
                format!("ALTER TABLE {name} ENABLE TRIGGER USER;"),
            ],
            12 => vec![format!("VACUUM FULL {name};")],
            13 => vec![format!(
                "CLUSTER {name} USING {};",
                table.name_with("_pkey")
            )],
            14 => self.reattach(number),
            15 => vec![
                "CREATE TABLE newcomer (id int PRIMARY KEY, up int);".to_owned(),
                format!("ALTER TABLE newcomer ADD FOREIGN KEY (up) REFERENCES {name};"),
                "INSERT INTO newcomer VALUES (1, 1), (2, 2), (3, NULL);".to_owned(),
                self.removal(),
                "DROP TABLE newcomer;".to_owned(),
            ],
            16 => vec![
                format!("CREATE TABLE copied (LIKE {name} INCLUDING ALL);"),
                "INSERT INTO copied (id, k) VALUES (1, 1);".to_owned(),
                "DELETE FROM copied;".to_owned(),
                "DROP TABLE copied;".to_owned(),
            ],
            17 => vec![
                format!("ALTER TABLE {name} ENABLE ROW LEVEL SECURITY;"),
                self.removal(),
                format!("ALTER TABLE {name} NO FORCE ROW LEVEL SECURITY;"),
            ],
            18 => vec![format!(
                "ALTER TABLE {name} ALTER COLUMN n DROP DEFAULT, ALTER COLUMN label SET STORAGE EXTERNAL;"
            )],
            19 => vec![
                format!("ALTER TABLE {name} ADD CONSTRAINT small CHECK (n < 900) NOT VALID;"),
                format!("ALTER TABLE {name} VALIDATE CONSTRAINT small;"),
                format!("ALTER TABLE {name} DROP CONSTRAINT small;"),
            ],
            20 => vec![
                format!(
                    "CREATE TRIGGER hears2 AFTER DELETE ON {name} FOR EACH ROW EXECUTE FUNCTION say();"
                ),
                self.removal(),
                format!("DROP TRIGGER hears2 ON {name};"),
            ],
            21 => vec![
                "BEGIN;".to_owned(),
                format!("DROP TABLE {name} CASCADE;"),
                self.removal(),
                "ROLLBACK;".to_owned(),
            ],
            22 => vec![
                format!("CREATE TEMP TABLE aside AS SELECT * FROM {name};"),
                "DELETE FROM aside;".to_owned(),
                "DROP TABLE aside;".to_owned(),
            ],
            23 => vec![format!(
                "ALTER TABLE {name} ALTER CONSTRAINT key0 {};",
                self.random.one_of(&[
                    "DEFERRABLE",
                    "DEFERRABLE INITIALLY DEFERRED",
                    "NOT DEFERRABLE"
                ])
            )],
            24 if self.major >= 18 => vec![
                format!("ALTER TABLE {name} ALTER CONSTRAINT key0 NOT ENFORCED;"),
                self.delete() + ";",
                format!("ALTER TABLE {name} ALTER CONSTRAINT key0 ENFORCED;"),
            ],
            25 => vec![
                format!("ALTER TABLE {name} RENAME CONSTRAINT key0 TO other_key;"),
                self.removal(),
                format!("ALTER TABLE {name} RENAME CONSTRAINT other_key TO key0;"),
            ],
            26 => vec![
                format!(
                    "ALTER TABLE {name} ADD COLUMN IF NOT EXISTS later3 int GENERATED ALWAYS AS (k + 1) STORED;"
                ),
                self.removal(),
                format!("ALTER TABLE {name} ALTER COLUMN later3 DROP EXPRESSION IF EXISTS;"),
            ],
            27 => vec![
                format!("CREATE RULE nothing AS ON DELETE TO {name} DO INSTEAD NOTHING;"),
                self.removal(),
                format!("DROP RULE nothing ON {name};"),
            ],
            28 => vec![
                format!("CREATE TEMP TABLE {name} (id int, k int, n int, label text);"),
                format!("INSERT INTO {name} (id, k, n) VALUES (1, 1, 1), (2, 2, 2);"),
                format!("DELETE FROM {name} WHERE id = 1 RETURNING *;"),
                self.removal(),
                format!("DROP TABLE pg_temp.{name};"),
            ],
            // Of several keys that stand against it, which one is named depends on the order of the catalog.
            29 if self.schema.is_alone(number) => vec![
                format!("ALTER TABLE {name} SET UNLOGGED;"),
                self.removal(),
                format!("ALTER TABLE {name} SET LOGGED;"),
            ],
            30 => vec![
                format!("ALTER TABLE {name} OWNER TO difference_application;"),
                self.removal(),
                "RESET ROLE;".to_owned(),
                format!("ALTER TABLE {name} OWNER TO difference_owner;"),
            ],
            _ => vec![format!("ANALYZE {name};")],
        };
        [vec![own], change].concat()
    }

    fn reattach(&mut self, number: usize) -> Vec<String> {
        use crate::schema::Partitions;
        let table = &self.schema.tables[number];
        let (suffix, bound) = match table.partitions {
            Some(Partitions::List) => ("_2", "FOR VALUES IN (2)"),
            Some(Partitions::Range) => ("_low", "FOR VALUES FROM (MINVALUE) TO (5)"),
            Some(Partitions::Hash) => ("_1", "FOR VALUES WITH (MODULUS 2, REMAINDER 1)"),
            None => return vec![format!("REINDEX TABLE {};", table.name)],
        };
        let (name, part) = (table.name, table.name_with(suffix));
        let id = self.number();
        vec![
            format!("ALTER TABLE {name} DETACH PARTITION {part};"),
            self.removal(),
            format!("DELETE FROM {part} WHERE id = {id} RETURNING *;"),
            format!("ALTER TABLE {name} ATTACH PARTITION {part} {bound};"),
            format!("DELETE FROM {part} WHERE id = {} RETURNING *;", id + 1),
        ]
    }
}
