//! One session and the oracle side by side: after each step the two must agree in everything.

use anyhow::Result;

use crate::database::Server;
use crate::operation::Operation;
use crate::pair::Pair;
use crate::schema::Schema;
use crate::seeds::FIRST_WIDE;
use keepsake_tests::random::Random;

const STEPS: usize = 60;
const ISOLATION: [&str; 3] = ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"];

/// A schema and what is done to it.
#[derive(Clone)]
pub struct Case {
    pub schema: Schema,
    isolation: &'static str,
    operations: Vec<Operation>,
}

impl Case {
    pub fn random(seed: u64) -> Self {
        let random = &mut Random::new(seed);
        let mut case = Self {
            schema: Schema::random(random),
            isolation: random.one_of(&ISOLATION),
            operations: (0..STEPS).map(|_| Operation::random(random)).collect(),
        };
        case.schema.choose_policies(random);
        case.schema.choose_overrides(random);
        if seed >= FIRST_WIDE {
            case.schema.choose_shapes(random, true);
            for operation in &mut case.operations {
                operation.widen(random);
            }
        }
        case
    }

    /// Smaller cases, the much smaller ones first.
    pub fn simpler(&self) -> Vec<Self> {
        let fewer = keepsake_tests::shrink::with_parts_left_out(&self.operations);
        let fewer = fewer.into_iter().map(|operations| Self {
            operations,
            ..self.clone()
        });
        let schemas = self.schema.simpler().into_iter().map(|schema| Self {
            schema,
            ..self.clone()
        });
        fewer.chain(schemas).collect()
    }

    /// Runs it in the database `name`; the failure, if any, with a script that shows it.
    pub async fn run(&self, server: &Server, name: &str) -> Result<(), String> {
        let mut script = vec![
            "\\set ON_ERROR_ROLLBACK on".to_owned(),
            "CREATE EXTENSION keepsake;".to_owned(),
        ];
        script.extend(self.schema.ddl().iter().map(|sql| format!("{sql};")));
        let ran = self.run_in(server, name, &mut script).await;
        let dropped = server.discard(name).await;
        ran.and(dropped)
            .map_err(|error| format!("{error:#}\n\n{}\n", script.join("\n")))
    }

    async fn run_in(&self, server: &Server, name: &str, script: &mut Vec<String>) -> Result<()> {
        server.make(name, &self.schema).await?;
        let mut pair = Pair::begin(server, name, &self.schema, self.isolation, script).await?;
        for operation in &self.operations {
            pair.step(operation).await?;
            pair.compare().await?;
        }
        Ok(())
    }
}
