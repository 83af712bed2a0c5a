//! Every way in which a row can go.

use super::{UNDONE, Writer};

impl Writer<'_> {
    /// A statement that removes rows.
    pub fn removal(&mut self) -> String {
        match self.random.below(32) {
            0..6 => self.plain_delete(),
            6 => self.delete_using(),
            7 => self.delete_only(),
            8 => self.delete_into_log(),
            9 => self.delete_twice(),
            10 => self.move_rows(),
            11 if self.in_place() => self.plain_delete(),
            11 => self.delete_and_insert_again(),
            12 | 13 => self.merge(),
            14 => self.function(),
            15 => self.block(),
            16 => self.exception_block(),
            17 => self.prepared(),
            18 => self.procedure(),
            19 => self.delete_in_loop(),
            20 => self.two_in_one_query(),
            21 => self.explained(),
            22 => self.recursive(),
            23 if self.defines && !self.in_place() && !self.schema.has_unenforced() => {
                self.truncate()
            }
            24..31 => self.idiom(),
            _ => self.as_replica(),
        }
    }

    /// A `DELETE` and its condition, without what ends it.
    pub fn delete(&mut self) -> String {
        let target = self.target();
        let condition = self.condition("x");
        format!("DELETE FROM {target} AS x WHERE {condition}")
    }

    fn plain_delete(&mut self) -> String {
        let delete = self.delete();
        let returning = self.returning("x");
        format!("{delete}{returning};")
    }

    fn delete_using(&mut self) -> String {
        let (target, other) = (self.target(), self.name());
        let (mine, condition) = (self.condition("x"), self.condition("o"));
        let returning = self.returning("x");
        format!(
            "DELETE FROM {target} AS x USING {other} AS o WHERE o.id = x.id AND ({mine} OR {condition}){returning};"
        )
    }

    fn delete_only(&mut self) -> String {
        let name = self.name();
        let condition = self.condition("x");
        format!("DELETE FROM ONLY {name} AS x WHERE {condition};")
    }

    fn delete_into_log(&mut self) -> String {
        let delete = self.delete();
        format!(
            "WITH gone AS ({delete} RETURNING x.id, x.n) INSERT INTO log (what) SELECT format('%s/%s', id, n) FROM gone RETURNING what;"
        )
    }

    fn delete_twice(&mut self) -> String {
        let (one, other) = (self.delete(), self.delete());
        format!(
            "WITH a AS ({one} RETURNING x.id), b AS ({other} RETURNING x.id) SELECT (SELECT count(*) FROM a), (SELECT count(*) FROM b);"
        )
    }

    /// Removes rows of one table and writes others with what they had.
    fn move_rows(&mut self) -> String {
        let delete = self.delete();
        let other = self.name();
        format!(
            "WITH gone AS ({delete} RETURNING x.id) UPDATE {other} AS o SET n = o.n + 1 FROM gone WHERE o.id = gone.id RETURNING o.id, o.n;"
        )
    }

    fn delete_and_insert_again(&mut self) -> String {
        let number = self.table_number();
        let name = self.schema.tables[number].name;
        let columns = self.schema.written_columns(number).join(", ");
        let into = self.schema.insertion(number);
        let id = self.number();
        format!(
            "WITH gone AS (DELETE FROM {name} WHERE id = {id} RETURNING *) {into} SELECT {columns} FROM gone;"
        )
    }

    fn merge(&mut self) -> String {
        let (name, other) = (self.name(), self.name());
        let condition = self.condition("x");
        let mut sql =
            format!("MERGE INTO {name} AS x USING (SELECT id, n FROM {other}) AS o ON x.id = o.id");
        if self.random.one_in(4) {
            sql += &format!(" WHEN MATCHED AND x.n = {} THEN DO NOTHING", self.number());
        }
        sql += &format!(" WHEN MATCHED AND {condition} THEN DELETE");
        // A trigger on updates of a column then fires for every row that is met.
        let updates = !self.in_place() || !self.code.triggered.contains(&name);
        if self.random.one_in(2) && updates {
            sql += " WHEN MATCHED AND o.n % 2 = 0 THEN UPDATE SET n = x.n + 1";
        }
        if self.random.one_in(4) {
            let condition = self.condition("x");
            sql += &format!(" WHEN MATCHED AND {condition} THEN DELETE");
        }
        match self.random.below(6) {
            0 | 1 => sql += " WHEN NOT MATCHED THEN DO NOTHING",
            2 => {
                let (one, n) = (self.number(), self.random.below(900));
                self.base += usize::from(self.in_place());
                let base = if self.in_place() { self.base } else { 0 };
                // One row: which of several is refused first is the plan's choice.
                sql += &format!(
                    " WHEN NOT MATCHED AND o.id = {one} THEN INSERT (id, k, label, n) VALUES (o.id + {}, 1, 'merged', {n})",
                    100_000 * base,
                );
            }
            _ => {}
        }
        if self.major >= 17 {
            if self.random.one_in(3) {
                sql += " WHEN NOT MATCHED BY SOURCE AND x.n % 4 = 1 THEN DELETE";
            }
            if self.random.one_in(2) {
                sql += match self.major {
                    18.. if self.in_place() => " RETURNING merge_action(), x.*, old.n, new",
                    _ => " RETURNING merge_action(), x.id",
                };
            }
        }
        sql + ";"
    }

    fn function(&mut self) -> String {
        let (one, other) = (self.name(), self.name());
        let (x, y) = (self.number(), self.number());
        match self.random.below(3) {
            0 => format!("SELECT remove('{one}', {x});"),
            1 => format!("SELECT remove('{one}', {x}), remove('{other}', {y});"),
            _ => format!(
                "SELECT id, remove('{one}', id) FROM (SELECT id FROM {other} ORDER BY id LIMIT 3) AS few;"
            ),
        }
    }

    fn block(&mut self) -> String {
        let (one, other) = (self.delete(), self.delete());
        format!("DO $$ BEGIN {one}; {other}; RAISE NOTICE 'done'; END $$;")
    }

    fn exception_block(&mut self) -> String {
        let (one, two, three) = (self.delete(), self.delete(), self.delete());
        let told = if self.in_place() {
            "GET STACKED DIAGNOSTICS c = CONSTRAINT_NAME, t = TABLE_NAME, s = SCHEMA_NAME; RAISE NOTICE '%|%|%|%', SQLSTATE, c, t, s;"
        } else {
            "RAISE NOTICE '% %', SQLSTATE, SQLERRM;"
        };
        format!(
            "DO $$ DECLARE c text; t text; s text; BEGIN {one};
               BEGIN {two};{UNDONE} EXCEPTION WHEN OTHERS THEN {told} END;
               BEGIN {three}; EXCEPTION WHEN OTHERS THEN {told} END; END $$;"
        )
    }

    fn prepared(&mut self) -> String {
        let name = self.target();
        let (x, y) = (self.number(), self.number());
        format!(
            "PREPARE away (int) AS DELETE FROM {name} WHERE id = $1; EXECUTE away ({x}); EXECUTE away ({y}); DEALLOCATE away;"
        )
    }

    fn procedure(&mut self) -> String {
        let name = self.name();
        let numbers = [self.number(), self.number(), self.number()];
        format!("CALL remove_by_one('{name}', ARRAY{numbers:?});")
    }

    fn delete_in_loop(&mut self) -> String {
        let (one, other) = (self.name(), self.name());
        let condition = self.condition("x");
        format!(
            "DO $$ DECLARE gone record; BEGIN
               FOR gone IN SELECT x.id FROM {one} AS x WHERE {condition} ORDER BY x.id LOOP
                 DELETE FROM {other} WHERE id = gone.id; RAISE NOTICE '% %', gone.id, FOUND;
               END LOOP; END $$;"
        )
    }

    /// Statements of one query string share a transaction.
    fn two_in_one_query(&mut self) -> String {
        let (one, other) = (self.delete(), self.delete());
        format!("{one} \\; {other} \\; SELECT 1;")
    }

    /// The plan is not shown: it tells of every trigger by name.
    fn explained(&mut self) -> String {
        let delete = self.delete();
        format!(
            "DO $$ BEGIN EXECUTE 'EXPLAIN ANALYZE {}'; END $$;",
            delete.replace('\'', "''''")
        )
    }

    /// Of what is kept of it nothing is compared.
    fn truncate(&mut self) -> String {
        let name = self.target();
        let how = self
            .random
            .one_of(&["", " CASCADE", " RESTART IDENTITY CASCADE"]);
        format!("TRUNCATE {name}{how};")
    }

    fn recursive(&mut self) -> String {
        let name = self.name();
        let x = self.number();
        format!(
            "WITH RECURSIVE down (id, depth) AS (SELECT id, 1 FROM {name} WHERE id = {x} UNION ALL SELECT c.id, depth + 1 FROM {name} AS c JOIN down ON c.n = down.id WHERE depth < 3)
             DELETE FROM {name} WHERE id IN (SELECT id FROM down) RETURNING id;"
        )
    }

    /// Without any trigger, and so without a trace; nothing may refer to what is gone.
    fn as_replica(&mut self) -> String {
        let delete = self.delete();
        if !self.defines {
            return delete + ";";
        }
        format!("SET session_replication_role = replica; {delete}; RESET session_replication_role;")
    }
}

impl Writer<'_> {
    /// Statements that remove rows and do nothing else, of one transaction or several.
    pub fn undoable(&mut self) -> Vec<String> {
        let mut removals: Vec<String> = (0..1 + self.random.below(3))
            .map(|_| self.undoable_removal())
            .collect();
        if removals.len() > 1 && self.random.one_in(2) {
            removals.insert(0, "SAVEPOINT one;".to_owned());
            removals.insert(0, "BEGIN;".to_owned());
            if self.random.one_in(2) {
                removals.insert(2, "ROLLBACK TO one;".to_owned());
            }
            removals.push("COMMIT;".to_owned());
        }
        removals
    }

    fn undoable_removal(&mut self) -> String {
        match self.random.below(10) {
            0..4 => self.plain_delete(),
            4 => self.delete_using(),
            5 => self.delete_only(),
            6 => self.delete_twice(),
            7 => self.function(),
            8 => self.block(),
            _ => self.exception_block(),
        }
    }
}
