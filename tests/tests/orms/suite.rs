//! A suite of an ORM: where it is, and how it is run so that it writes down what passes.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use keepsake_tests::places::{checkout, home};
use keepsake_tests::postgres::Postgres;

/// One of the suites.
#[derive(Debug)]
pub struct Suite {
    pub name: &'static str,
    /// The folder of its source, where `scripts/setup-orms` puts it, and of its tests in there.
    folder: &'static str,
    arguments: &'static [&'static str],
    /// Which of its tests, unless `KEEPSAKE_ORM_TESTS` names others.
    tests: &'static [&'static str],
}

pub const DJANGO: Suite = Suite {
    name: "Django",
    folder: "django/tests",
    arguments: &[
        "runtests.py",
        "--settings=keepsake_settings",
        "--parallel=1",
        "--keepdb",
    ],
    tests: &[
        "delete",
        "delete_regress",
        "many_to_many",
        "many_to_one",
        "bulk_create",
        "get_or_create",
        "queries",
    ],
};

/// What is about removed rows. The rest writes deleted keys again, or truncates.
pub const DJANGO_IN_PLACE: Suite = Suite {
    tests: &["delete", "many_to_many", "many_to_one"],
    ..DJANGO
};

pub const SQLALCHEMY: Suite = Suite {
    name: "SQLAlchemy",
    folder: "sqlalchemy",
    arguments: &[
        "-m",
        "pytest",
        "-q",
        "--tb=short",
        "-p",
        "keepsake_passes",
        "-p",
        "no:cacheprovider",
        "--maxfail=100000",
    ],
    tests: &["test/orm"],
};

pub const SQLALCHEMY_IN_PLACE: Suite = Suite {
    tests: &["test/orm/test_cascade.py"],
    ..SQLALCHEMY
};

impl Suite {
    /// Runs it in the database, as the role of the same name; the tests that pass.
    pub fn run(
        &self,
        postgres: &Postgres,
        database: &str,
        password: &str,
    ) -> Result<BTreeSet<String>> {
        let orms = home()?.join("orms");
        let python = orms.join("venv/bin/python");
        ensure!(
            python.is_file(),
            "there is no {}; run `make test-orms`",
            python.display()
        );
        let passes = postgres.folder().join(format!("{}-{database}", self.name));
        let log = passes.with_extension("log");
        let output = fs::File::create(&log)?;
        let chosen = std::env::var("KEEPSAKE_ORM_TESTS").unwrap_or_else(|_| self.tests.join(" "));
        let url = postgres.url(database, password, database);
        let mut command = Command::new(python);
        command
            .args(self.arguments)
            .arg(if self.name == "SQLAlchemy" {
                format!(
                    "--dburi={}",
                    url.replace("postgres://", "postgresql+psycopg2://")
                )
            } else {
                "--verbosity=1".to_owned()
            })
            .args(chosen.split_whitespace())
            .current_dir(orms.join(self.folder))
            .env("PYTHONPATH", checkout().join("tests/tests/orms/python"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("KEEPSAKE_ORM_PASSES", &passes)
            .env("KEEPSAKE_ORM_DATABASE", database)
            .env("KEEPSAKE_ORM_PASSWORD", password)
            .env("KEEPSAKE_ORM_PORT", postgres.port().to_string())
            .stdout(output.try_clone()?)
            .stderr(output);
        // Some tests fail anywhere: what counts is which.
        command.status().context("cannot run Python")?;
        if let Ok(kept) = std::env::var("KEEPSAKE_ORM_LOGS") {
            fs::copy(
                &log,
                Path::new(&kept).join(format!("{}-{database}.log", self.name)),
            )?;
        }
        let text = fs::read_to_string(&passes)
            .with_context(|| fs::read_to_string(&log).unwrap_or_default())?;
        Ok(text.lines().map(str::to_owned).collect())
    }
}
