//! Removals as applications write them: queues, loops, functions of their own, chains of WITH.

use super::Writer;

impl Writer<'_> {
    pub fn idiom(&mut self) -> String {
        match self.random.below(17) {
            0 => self.take_from_queue(),
            1 => self.copy_removed(),
            2 => self.table_of_removed(),
            3 => self.loop_over_removed(),
            4 => self.removed_into_variable(),
            5 => self.chain(),
            6 => self.chain_of_removals(),
            7 => self.function_of_table(),
            8 => self.loop_with_cursor(),
            9 => self.remove_neighbours(),
            10 => self.remove_all_but_some(),
            11 => self.insert_and_remove(),
            12 => self.remove_by_array(),
            13 => self.remove_by_address(),
            14 => self.remove_by_built_text(),
            15 => self.remove_with_parameter(),
            _ => self.remove_orphans(),
        }
    }

    fn take_from_queue(&mut self) -> String {
        let name = self.name();
        let condition = self.condition("q");
        let lock = self
            .random
            .one_of(&["FOR UPDATE SKIP LOCKED", "FOR NO KEY UPDATE", ""]);
        // A plain `IN` locks other rows whenever the plan runs it again.
        let chosen =
            format!("SELECT q.id FROM {name} AS q WHERE {condition} ORDER BY q.id, q.k LIMIT");
        match self.random.below(3) {
            0 => format!("DELETE FROM {name} AS x WHERE x.id = ({chosen} 1 {lock}) RETURNING x.*;"),
            1 => format!(
                "DELETE FROM {name} AS x WHERE x.id = ANY (ARRAY({chosen} 2 {lock})) RETURNING x.*;"
            ),
            _ => format!(
                "WITH chosen AS MATERIALIZED ({chosen} 2 {lock}) DELETE FROM {name} AS x USING chosen WHERE x.id = chosen.id RETURNING x.*;"
            ),
        }
    }

    fn copy_removed(&mut self) -> String {
        let delete = self.delete();
        format!("COPY ({delete} RETURNING x.id, x.n) TO STDOUT;")
    }

    fn table_of_removed(&mut self) -> String {
        let delete = self.delete();
        format!(
            "CREATE TEMP TABLE taken AS WITH gone AS ({delete} RETURNING x.id, x.n) SELECT * FROM gone; TABLE taken; DROP TABLE taken;"
        )
    }

    fn loop_over_removed(&mut self) -> String {
        let delete = self.delete();
        format!(
            "DO $$ DECLARE gone record; counted int; BEGIN
               FOR gone IN {delete} RETURNING x.id, x.n LOOP RAISE NOTICE '%', gone; END LOOP;
               RAISE NOTICE 'found %', FOUND; END $$;"
        )
    }

    fn removed_into_variable(&mut self) -> String {
        let delete = self.delete();
        let strict = self.random.one_of(&["", "STRICT "]);
        let (id, name) = (self.number(), self.name());
        // The second row ends it, and which two come first is the plan's choice.
        let delete = if !self.in_place() && self.random.one_in(2) {
            delete
        } else {
            format!("DELETE FROM {name} AS x WHERE x.id = {id}")
        };
        format!(
            "DO $$ DECLARE one int; counted int; BEGIN
               {delete} RETURNING x.id INTO {strict}one;
               GET DIAGNOSTICS counted = ROW_COUNT;
               RAISE NOTICE '% % %', one, counted, FOUND; END $$;"
        )
    }

    /// Removes, updates with what was removed, and writes down what was updated.
    fn chain(&mut self) -> String {
        let delete = self.delete();
        let other = self.name();
        format!(
            "WITH a AS ({delete} RETURNING x.id), b AS (UPDATE {other} AS o SET n = o.n + 1 FROM a WHERE o.id = a.id + 1 RETURNING o.id),
             c AS (INSERT INTO log (what) SELECT 'chain ' || id FROM b RETURNING what) SELECT what, (SELECT count(*) FROM a) FROM c;"
        )
    }

    /// Removes of one table what was removed of another, parents or children first.
    fn chain_of_removals(&mut self) -> String {
        let delete = self.delete();
        let (second, third) = (self.name(), self.name());
        let last = self
            .random
            .one_of(&["", " RETURNING z.id", " RETURNING z.*"]);
        format!(
            "WITH a AS ({delete} RETURNING x.id), b AS (DELETE FROM {second} AS y USING a WHERE y.n = a.id RETURNING y.id)
             DELETE FROM {third} AS z USING (TABLE a UNION TABLE b) AS gone WHERE z.id = gone.id{last};"
        )
    }

    fn function_of_table(&mut self) -> String {
        let at = self.table_number();
        let (x, y) = (self.number(), self.number());
        match self.random.below(5) {
            0 => format!("SELECT * FROM sweep_{at}({x});"),
            1 => format!("SELECT sweep_{at}({x}), sweep_{at}({y});"),
            2 => format!("SELECT * FROM drain_{at}({x});"),
            3 => format!("SELECT * FROM drain_{at}({x}) AS a JOIN sweep_{at}({y}) AS b ON true;"),
            _ => format!("SELECT sweep_atomic_{at}({x}), sweep_atomic_{at}({y});"),
        }
    }

    fn loop_with_cursor(&mut self) -> String {
        let name = self.name();
        let condition = self.condition("x");
        let change = if self.random.one_in(2) {
            format!("UPDATE {name} SET label = 'current' WHERE CURRENT OF c;")
        } else {
            String::new()
        };
        format!(
            "DO $$ DECLARE c CURSOR FOR SELECT x.id FROM {name} AS x WHERE {condition} ORDER BY x.id, x.k FOR UPDATE; BEGIN
               FOR one IN c LOOP {change}
                 IF one.id % 2 = 0 THEN DELETE FROM {name} WHERE CURRENT OF c; RAISE NOTICE '% %', one.id, FOUND; END IF;
               END LOOP; END $$;"
        )
    }

    /// Joins a table with itself.
    fn remove_neighbours(&mut self) -> String {
        let name = self.target();
        let condition = self.condition("o");
        let returning = self.returning("x");
        format!(
            "DELETE FROM {name} AS x USING {name} AS o WHERE o.id = x.id + 1 AND {condition}{returning};"
        )
    }

    fn remove_all_but_some(&mut self) -> String {
        let name = self.name();
        let condition = self.condition("o");
        format!(
            "DELETE FROM {name} AS x WHERE x.id > {} AND NOT EXISTS (SELECT FROM {name} AS o WHERE {condition} AND o.k = x.k) RETURNING (SELECT count(*) FROM {name}), x.id;",
            self.base + 2
        )
    }

    /// A row written and another removed in one statement.
    fn insert_and_remove(&mut self) -> String {
        let delete = self.delete();
        format!(
            "WITH noted AS (INSERT INTO log (what) VALUES ('noted') RETURNING what) {delete} AND EXISTS (SELECT FROM noted) RETURNING x.id;"
        )
    }

    fn remove_by_array(&mut self) -> String {
        let name = self.target();
        let x = self.number();
        // Which of two that are the same is met is the plan's choice.
        let y = x + 1 + self.random.below(4);
        match self.random.below(3) {
            0 => format!(
                "DELETE FROM {name} AS x WHERE x.id = ANY (ARRAY[{x}, {y}, NULL]) RETURNING tableoid::regclass, x.id;"
            ),
            1 => format!(
                "DELETE FROM {name} AS x USING unnest(ARRAY[{x}, {y}]) WITH ORDINALITY AS given (id, at) WHERE x.id = given.id RETURNING given.at, x.n;"
            ),
            _ => format!(
                "DELETE FROM {name} AS x USING (VALUES ({x}), ({y})) AS given (id) WHERE x.id = given.id RETURNING x, given;"
            ),
        }
    }

    /// A batch by where its rows stand.
    fn remove_by_address(&mut self) -> String {
        let number = self.table_number();
        let table = &self.schema.tables[number];
        // An address is that of a row in one partition.
        if table.partitions.is_some() || table.has_heir {
            return self.remove_by_array();
        }
        let (name, condition) = (table.name, self.condition("q"));
        format!(
            "DELETE FROM {name} AS x WHERE x.ctid = ANY (ARRAY(SELECT q.ctid FROM {name} AS q WHERE {condition} ORDER BY q.id LIMIT 2)) RETURNING x.id;"
        )
    }

    fn remove_by_built_text(&mut self) -> String {
        let (name, x) = (self.name(), self.number());
        let y = x + 1;
        format!(
            "DO $$ DECLARE gone record; BEGIN
               FOR gone IN EXECUTE format('DELETE FROM %s AS x WHERE x.id IN ($1, $2) RETURNING x.id, to_jsonb(x) - ''seen'' AS line', '{name}') USING {x}, {y} LOOP
                 RAISE NOTICE '%', gone; END LOOP; END $$;"
        )
    }

    /// By the extended protocol, which psql speaks from PostgreSQL 16 on.
    fn remove_with_parameter(&mut self) -> String {
        let (name, x) = (self.target(), self.number());
        if self.major < 18 {
            return self.remove_by_array();
        }
        let returning = self.random.one_of(&["", " RETURNING x.id", " RETURNING *"]);
        format!("DELETE FROM {name} AS x WHERE x.id = $1::int{returning} \\bind {x} \\g")
    }

    /// Rows that nothing refers to, or that refer to nothing.
    fn remove_orphans(&mut self) -> String {
        let (name, other) = (self.name(), self.name());
        let condition = self.condition("x");
        format!(
            "DELETE FROM {name} AS x WHERE {condition} AND x.id NOT IN (SELECT n FROM {other} WHERE n IS NOT NULL) RETURNING x.id;"
        )
    }
}
