//! Transactions, and what a session sets and holds open.

use super::Writer;

impl Writer<'_> {
    /// A transaction from its begin to its end.
    pub fn transaction(&mut self) -> Vec<String> {
        let isolation = self.random.one_of(&[
            "",
            "",
            " ISOLATION LEVEL REPEATABLE READ",
            " ISOLATION LEVEL SERIALIZABLE",
        ]);
        let mut steps = vec![format!("BEGIN{isolation};")];
        let mut savepoints = 0;
        for _ in 0..2 + self.random.below(6) {
            match self.random.below(10) {
                0 | 1 => {
                    savepoints += 1;
                    steps.push(format!("SAVEPOINT s{savepoints};"));
                }
                2 if savepoints > 0 => steps.push(format!(
                    "ROLLBACK TO s{};",
                    1 + self.random.below(savepoints)
                )),
                3 if savepoints > 0 => {
                    steps.push(format!("RELEASE s{};", 1 + self.random.below(savepoints)))
                }
                4 => steps.push(self.constraints()),
                5 if self.in_place() => steps.extend(self.insert_new()),
                5 => steps.push(self.insert()),
                6 => steps.push(self.update()),
                _ => steps.push(self.removal()),
            }
        }
        match self.random.below(8) {
            0 | 1 => steps.push("ROLLBACK;".to_owned()),
            2 => {
                let end = self.random.one_of(&["COMMIT", "ROLLBACK"]);
                steps.push("PREPARE TRANSACTION :'both';".to_owned());
                if self.random.one_in(2) {
                    steps.push(self.read());
                }
                steps.push(format!("{end} PREPARED :'both';"));
            }
            3 => {
                steps.push("COMMIT AND CHAIN;".to_owned());
                steps.push(self.removal());
                steps.push("COMMIT;".to_owned());
            }
            _ => steps.push("COMMIT;".to_owned()),
        }
        steps
    }

    fn constraints(&mut self) -> String {
        let when = self.random.one_of(&["IMMEDIATE", "DEFERRED"]);
        if self.random.one_in(3) {
            return format!("SET CONSTRAINTS key0 {when};");
        }
        format!("SET CONSTRAINTS ALL {when};")
    }

    /// Who the session is, and how it goes about things.
    pub fn setting(&mut self) -> String {
        const OTHERS: [&str; 16] = [
            "SET enable_nestloop = off;",
            "SET enable_indexscan = off; SET enable_bitmapscan = off;",
            "RESET enable_indexscan; RESET enable_bitmapscan;",
            "SET enable_partition_pruning = off;",
            "SET default_transaction_isolation = 'serializable';",
            "SET enable_seqscan = off;",
            "RESET enable_seqscan;",
            "SET enable_hashjoin = off;",
            "SET default_transaction_isolation = 'repeatable read';",
            "RESET default_transaction_isolation;",
            "SET plan_cache_mode = force_generic_plan;",
            "SET row_security = on;",
            "DISCARD PLANS;",
            "\\set ON_ERROR_ROLLBACK on",
            "\\set ON_ERROR_ROLLBACK off",
            "\\set AUTOCOMMIT on",
        ];
        self.random
            .one_of(&[self.roles, &OTHERS].concat())
            .to_owned()
    }

    /// Removes rows where a cursor stands, one open over other statements.
    pub fn cursor(&mut self) -> Vec<String> {
        let name = self.name();
        let condition = self.condition("x");
        // Rows stand elsewhere.
        let order = if self.in_place() { " ORDER BY id" } else { "" };
        let mut steps = vec![
            "BEGIN;".to_owned(),
            format!(
                "DECLARE c CURSOR FOR SELECT * FROM {name} AS x WHERE {condition}{order} FOR UPDATE;"
            ),
            "FETCH c;".to_owned(),
        ];
        if self.random.one_in(3) {
            steps.push(self.removal());
        }
        if self.random.one_in(4) {
            steps.push(format!(
                "UPDATE {name} SET label = 'current' WHERE CURRENT OF c RETURNING id;"
            ));
        }
        steps.push(format!(
            "DELETE FROM {name} WHERE CURRENT OF c RETURNING id;"
        ));
        steps.push("FETCH c;".to_owned());
        if self.random.one_in(2) {
            steps.push(format!("DELETE FROM {name} WHERE CURRENT OF c;"));
        }
        steps.push("FETCH ALL c;".to_owned());
        steps.push(
            self.random
                .one_of(&["COMMIT;", "COMMIT;", "ROLLBACK;"])
                .to_owned(),
        );
        steps
    }
}
