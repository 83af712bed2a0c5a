//! What users write around their tables: triggers, functions, views and rules.

use keepsake_tests::random::Random;

use crate::case::Mode;
use crate::schema::{OnDelete, Schema};

/// Functions that the triggers below call, and that statements call.
const FUNCTIONS: [&str; 14] = [
    "CREATE FUNCTION say() RETURNS trigger LANGUAGE plpgsql AS $$
     BEGIN
         RAISE NOTICE '% % % % on %: % -> %', TG_NAME, TG_WHEN, TG_OP, TG_LEVEL, TG_TABLE_NAME, OLD, NEW;
         RETURN coalesce(NEW, OLD);
     END $$",
    "CREATE FUNCTION count_gone() RETURNS trigger LANGUAGE plpgsql AS $$
     BEGIN
         RAISE NOTICE '% removed % rows of %', TG_NAME, (SELECT count(*) FROM gone), TG_TABLE_NAME;
         RETURN NULL;
     END $$",
    "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
     BEGIN
         INSERT INTO log (what) VALUES (format('%s %s %s', TG_TABLE_NAME, TG_OP, coalesce(OLD.id, NEW.id)));
         RETURN coalesce(NEW, OLD);
     END $$",
    "CREATE FUNCTION note_row() RETURNS trigger LANGUAGE plpgsql AS $$
     BEGIN
         INSERT INTO log (what) VALUES (format('%s %s %s', TG_TABLE_NAME, TG_OP, NEW.id));
         RETURN NEW;
     END $$",
    "CREATE FUNCTION keep_some() RETURNS trigger LANGUAGE plpgsql AS $$
     BEGIN
         IF OLD.n % 7 = 5 THEN RETURN NULL; END IF;
         IF OLD.n % 7 = 6 THEN RAISE EXCEPTION 'row % stays', OLD.id USING ERRCODE = 'KS007', HINT = 'none', TABLE = TG_TABLE_NAME; END IF;
         RETURN OLD;
     END $$",
    "CREATE FUNCTION take_along() RETURNS trigger LANGUAGE plpgsql AS $$
     BEGIN
         EXECUTE format('DELETE FROM %s WHERE id = $1', TG_ARGV[0]) USING OLD.id + 1;
         RETURN coalesce(NEW, OLD);
     END $$",
    "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$
     BEGIN
         EXECUTE format('UPDATE %s SET n = n + 1 WHERE id = $1', TG_ARGV[0]) USING OLD.id;
         RETURN coalesce(NEW, OLD);
     END $$",
    "CREATE FUNCTION remove_instead() RETURNS trigger LANGUAGE plpgsql AS $$
     BEGIN
         EXECUTE format('DELETE FROM %s WHERE id = $1', TG_ARGV[0]) USING OLD.id;
         RETURN OLD;
     END $$",
    "CREATE FUNCTION remove(tables regclass, number int) RETURNS int LANGUAGE plpgsql AS $$
     DECLARE gone int;
     BEGIN
         EXECUTE format('DELETE FROM %s WHERE id = $1', tables) USING number;
         GET DIAGNOSTICS gone = ROW_COUNT;
         RETURN gone;
     EXCEPTION WHEN foreign_key_violation OR restrict_violation THEN
         RETURN -1;
     END $$",
    "CREATE FUNCTION take_along_as_owner() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
     BEGIN
         EXECUTE format('DELETE FROM %s WHERE id = $1 + 2', TG_ARGV[0]) USING OLD.id;
         RETURN coalesce(NEW, OLD);
     END $$",
    "CREATE FUNCTION tidy() RETURNS trigger LANGUAGE plpgsql AS $$
     BEGIN
         IF NEW.n % 11 = 10 THEN RETURN NULL; END IF;
         NEW.label := coalesce(NEW.label, 'none');
         RETURN NEW;
     END $$",
    "CREATE FUNCTION count_changed() RETURNS trigger LANGUAGE plpgsql AS $$
     BEGIN
         RAISE NOTICE '% changed % rows of % into %', TG_NAME, (SELECT count(*) FROM was), TG_TABLE_NAME, (SELECT count(*) FROM is_now);
         RETURN NULL;
     END $$",
    "CREATE FUNCTION write_instead() RETURNS trigger LANGUAGE plpgsql AS $$
     BEGIN
         EXECUTE format('UPDATE %s SET n = $2 WHERE id = $1', TG_ARGV[0]) USING NEW.id, NEW.n;
         RETURN NEW;
     END $$",
    "CREATE PROCEDURE remove_by_one(tables regclass, numbers int[]) LANGUAGE plpgsql AS $$
     DECLARE number int;
     BEGIN
         FOREACH number IN ARRAY numbers LOOP
             EXECUTE format('DELETE FROM %s WHERE id = $1', tables) USING number;
             IF number % 2 = 0 THEN COMMIT; ELSE ROLLBACK; END IF;
         END LOOP;
     END $$",
];

/// A trigger that does more than tell: nothing but its table is as it was after a removal and its restore.
#[derive(Clone, Debug)]
pub struct Meddler {
    pub name: String,
    pub table: &'static str,
}

/// The code of one case.
#[derive(Clone, Debug, Default)]
pub struct Code {
    pub sql: Vec<String>,
    pub meddlers: Vec<Meddler>,
    /// Tables that have a trigger.
    pub triggered: Vec<&'static str>,
    /// Views, by name, that rows can be removed through.
    pub views: Vec<&'static str>,
}

const MOMENTS: [&str; 6] = [
    "BEFORE INSERT OR UPDATE OR DELETE",
    "AFTER INSERT OR UPDATE OR DELETE",
    "AFTER DELETE",
    "BEFORE DELETE",
    "AFTER UPDATE OF n, label",
    "BEFORE UPDATE OR DELETE",
];

impl Code {
    pub fn random(random: &mut Random, schema: &Schema, mode: Mode) -> Self {
        let mut code = Self {
            sql: FUNCTIONS.map(str::to_owned).to_vec(),
            ..Self::default()
        };
        for (number, table) in schema.tables.iter().enumerate() {
            code.sql.extend(functions_of(number, table.name));
            if random.one_in(2) {
                match mode {
                    Mode::Archive => code.add_trigger(random, schema, number),
                    Mode::InPlace => code.add_writing_trigger(random, schema, number),
                }
            }
        }
        let name = |random: &mut Random| schema.tables[random.below(schema.tables.len())].name;
        if random.one_in(2) {
            let table = name(random);
            code.views.push("few");
            code.sql.push(format!(
                "CREATE VIEW few AS SELECT * FROM {table} WHERE n IS NULL OR n < 6 WITH CHECK OPTION"
            ));
        }
        if random.one_in(3) {
            let table = name(random);
            let with = random.one_of(&[
                "security_barrier",
                "security_invoker",
                "security_invoker, security_barrier",
            ]);
            code.views.push("inner_few");
            code.views.push("outer_few");
            code.sql.push(format!(
                "CREATE VIEW inner_few WITH ({with}) AS SELECT k, id, label, n, n * 2 AS double FROM {table} WHERE id % 7 <> 0"
            ));
            code.sql.push(
                "CREATE VIEW outer_few AS SELECT id, k, n, label, double FROM inner_few AS f WHERE n IS NULL OR n < 9".to_owned(),
            );
        }
        if random.one_in(3) {
            let (left, right) = (name(random), name(random));
            code.views.push("joined");
            code.sql.push(format!(
                "CREATE VIEW joined AS SELECT l.id, l.k, l.n, r.label FROM {left} AS l JOIN {right} AS r ON r.id = l.id"
            ));
            code.sql.push(format!(
                "CREATE TRIGGER instead INSTEAD OF DELETE ON joined FOR EACH ROW EXECUTE FUNCTION remove_instead({})",
                argument(left)
            ));
            code.sql.push(format!(
                "CREATE TRIGGER instead_too INSTEAD OF UPDATE ON joined FOR EACH ROW EXECUTE FUNCTION write_instead({})",
                argument(left)
            ));
        }
        if random.one_in(3) {
            let (table, other) = (name(random), name(random));
            code.views.push("ruled");
            code.sql
                .push(format!("CREATE VIEW ruled AS SELECT id, k, n FROM {table}"));
            code.sql.push(format!(
                "CREATE RULE away AS ON DELETE TO ruled DO INSTEAD (DELETE FROM {table} WHERE id = OLD.id; DELETE FROM {other} WHERE id = OLD.id)"
            ));
        }
        if random.one_in(6) {
            let number = random.below(schema.tables.len());
            let table = schema.tables[number].name;
            let references = &schema.tables[number].references;
            let cascades = references.iter().any(|one| one.action == OnDelete::Cascade);
            // A cascade of Keepsake's in place is no DELETE, to which a rule would add.
            if mode == Mode::InPlace && cascades {
                return code;
            }
            code.sql.push(format!(
                "CREATE RULE also AS ON DELETE TO {table} DO ALSO INSERT INTO log (what) VALUES ('rule ' || OLD.id)"
            ));
        }
        code
    }

    fn add_trigger(&mut self, random: &mut Random, schema: &Schema, number: usize) {
        let table = schema.tables[number].name;
        let other = argument(schema.tables[random.below(schema.tables.len())].name);
        // By name they come before the foreign keys' and Keepsake's own, between, or after both.
        let name = random.one_of(&[
            "\"A\"",
            "hears",
            "\"RI_Zz\"",
            "zz",
            "keepsake",
            "\"keepsake_z\"",
        ]);
        let row = |moment: &str, function: &str| {
            format!(
                "CREATE TRIGGER {name} {moment} ON {table} FOR EACH ROW EXECUTE FUNCTION {function}"
            )
        };
        let sql = match random.below(13) {
            0 | 1 => row(random.one_of(&MOMENTS), "say()"),
            2 => format!(
                "CREATE TRIGGER {name} {} ON {table} FOR EACH STATEMENT EXECUTE FUNCTION say()",
                random.one_of(&[
                    "BEFORE DELETE",
                    "AFTER DELETE OR UPDATE",
                    "AFTER INSERT OR DELETE"
                ])
            ),
            3 => format!(
                "CREATE TRIGGER {name} AFTER DELETE ON {table} REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION count_gone()"
            ),
            4 => row("AFTER INSERT OR DELETE", "note()"),
            5 => format!(
                "CREATE CONSTRAINT TRIGGER {name} AFTER DELETE OR UPDATE ON {table} DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION say()"
            ),
            6 => row(
                random.one_of(&["AFTER DELETE", "BEFORE DELETE"]),
                &format!("take_along({other})"),
            ),
            7 => {
                self.meddle(name, table);
                row(
                    random.one_of(&["AFTER DELETE", "BEFORE DELETE"]),
                    &format!("touch({other})"),
                )
            }
            8 => row(
                random.one_of(&["AFTER DELETE", "BEFORE DELETE"]),
                &format!("take_along_as_owner({other})"),
            ),
            9 => row("BEFORE INSERT OR UPDATE", "tidy()"),
            10 => format!(
                "CREATE TRIGGER {name} AFTER UPDATE ON {table} REFERENCING OLD TABLE AS was NEW TABLE AS is_now FOR EACH STATEMENT EXECUTE FUNCTION count_changed()"
            ),
            11 => format!(
                "CREATE TRIGGER {name} {} ON {table} FOR EACH ROW WHEN (OLD.n > 3) EXECUTE FUNCTION say()",
                random.one_of(&["AFTER DELETE", "BEFORE DELETE", "AFTER UPDATE OR DELETE"])
            ),
            _ => {
                self.meddle(name, table);
                row("BEFORE DELETE", "keep_some()")
            }
        };
        self.sql.push(sql);
    }

    /// Where rows are kept in place, triggers fire as for an UPDATE of the marks, which those on other events do not notice.
    fn add_writing_trigger(&mut self, random: &mut Random, schema: &Schema, number: usize) {
        let table = schema.tables[number].name;
        let other = argument(schema.tables[random.below(schema.tables.len())].name);
        self.triggered.push(table);
        let name = random.one_of(&["\"A\"", "hears", "zz", "keepsake", "\"keepsake_z\""]);
        let event = random.one_of(&[
            "BEFORE INSERT OR UPDATE OF n, label",
            "AFTER INSERT OR UPDATE OF n, label",
            "AFTER UPDATE OF n",
            "AFTER INSERT",
        ]);
        let (event, level, function) = match random.below(8) {
            6 => (
                "BEFORE INSERT OR UPDATE OF n, label",
                "ROW",
                "tidy()".to_owned(),
            ),
            7 => (
                "AFTER UPDATE OF n, label",
                "ROW",
                format!("take_along_as_owner({other})"),
            ),
            0 | 1 => (event, "ROW", "say()".to_owned()),
            2 => (event, "STATEMENT", "say()".to_owned()),
            3 => (event, "ROW", "note_row()".to_owned()),
            _ => (
                random.one_of(&["AFTER UPDATE OF n, label", "BEFORE UPDATE OF n"]),
                "ROW",
                format!("take_along({other})"),
            ),
        };
        self.sql.push(format!(
            "CREATE TRIGGER {name} {event} ON {table} FOR EACH {level} EXECUTE FUNCTION {function}"
        ));
    }

    fn meddle(&mut self, name: &str, table: &'static str) {
        self.meddlers.push(Meddler {
            name: name.to_owned(),
            table,
        });
    }
}

/// Functions of a table, by its number, whose statements are planned once a session, or parsed once for all.
fn functions_of(number: usize, table: &str) -> [String; 3] {
    [
        format!(
            "CREATE FUNCTION sweep_{number}(gone int) RETURNS SETOF int LANGUAGE sql AS $$ DELETE FROM {table} WHERE id = gone RETURNING n $$"
        ),
        format!(
            "CREATE FUNCTION sweep_atomic_{number}(gone int) RETURNS int LANGUAGE sql BEGIN ATOMIC DELETE FROM {table} WHERE id = gone RETURNING n; END"
        ),
        format!(
            "CREATE FUNCTION drain_{number}(above int) RETURNS TABLE (one int, other int) LANGUAGE plpgsql AS $$ BEGIN
                 RETURN QUERY DELETE FROM {table} AS x WHERE x.id > above AND x.id < above + 3 RETURNING x.id, x.n; RAISE NOTICE 'drained %', FOUND;
             END $$"
        ),
    ]
}

/// A name as the argument of a trigger.
fn argument(name: &str) -> String {
    format!("'{}'", name.replace('\'', "''"))
}
