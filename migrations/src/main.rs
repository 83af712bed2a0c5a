//! Makes the migrations from the files of `migrations/schema`; see `migrations/README.md`.

use std::process::ExitCode;

use anyhow::{Result, bail};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let folder = keepsake_schema::folder();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments
        .iter()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .as_slice()
    {
        ["baseline"] => keepsake_schema::write_baseline(folder),
        ["check"] => keepsake_schema::check(folder),
        ["migration", name] => {
            let name = keepsake_schema::write_migration(folder, name)?;
            println!(
                "migrations/{name}.up.sql and .down.sql: add the changes of tables, and read both."
            );
            Ok(())
        }
        _ => bail!("usage: keepsake-schema baseline | check | migration NAME"),
    }
}
