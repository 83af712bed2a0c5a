//! The command line.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;
use uuid::Uuid;

/// Installs and updates Keepsake in a PostgreSQL database, and operates it.
///
/// Exit codes: 0 done; 1 findings or conflicts, or the state of the database or the machine prevents it; 2 wrong arguments or
/// settings; 3 the database cannot be reached, or refused a statement; 4 done, but the result could not be written.
#[derive(Debug, Parser)]
#[command(name = "keepsake", version)]
pub struct Arguments {
    /// The database: postgres://user@host:5432/database?sslmode=verify-full. Put the password into PGPASSWORD or ~/.pgpass.
    #[arg(
        long,
        global = true,
        env = "DATABASE_URL",
        hide_env_values = true,
        value_name = "URL"
    )]
    pub database_url: Option<String>,
    /// Print JSON.
    #[arg(long, global = true)]
    pub json: bool,
    /// The name that deletions and holds record. [default: the role that is logged in]
    #[arg(long, global = true, value_name = "NAME")]
    pub actor: Option<String>,
    /// The command to run.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Install or update the extension and the schema, then report problems.
    Migrate(Migrate),
    /// Report problems in the database, each with the SQL that fixes it.
    Doctor,
    /// Manage a table: deletes on it become soft deletes.
    Manage(Manage),
    /// List deletions, newest first.
    Deletions(Deletions),
    /// Restore the rows of a deletion.
    Restore(Restore),
    /// Remove expired rows for good.
    Purge(Purge),
    /// Place a legal hold, which keeps rows from being purged.
    Hold(Hold),
    /// End a hold.
    Release {
        /// The number that `keepsake hold` printed.
        hold: i64,
    },
    /// Run the service here: HTTP, the scheduled work, and a store in a folder or by S3. Its settings are those of the worker,
    /// from the environment and a TOML file.
    Serve(Serve),
    /// Erase everything of a tenant, or of one person in it, whatever its retention. There is no way back.
    Erase(Erase),
    /// Show what deleting a row would delete with it. Changes nothing.
    Plan {
        /// The table, such as public.post.
        table: String,
        /// The key of the row; for several columns, a JSON object.
        key: String,
    },
}

/// Arguments of `serve`.
#[derive(Args, Debug)]
pub struct Serve {
    /// A TOML file with settings. Those of the environment go before it.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Do the scheduled work once, and end.
    #[arg(long)]
    pub once: bool,
}

/// Arguments of `migrate`.
#[derive(Args, Debug)]
pub struct Migrate {
    /// Print the SQL instead of running it.
    #[arg(long)]
    pub dry_run: bool,
    /// Record migrations that were applied by hand, up to the version of the schema, and apply the rest.
    #[arg(long, conflicts_with = "dry_run")]
    pub adopt: bool,
}

/// Arguments of `manage`.
#[derive(Args, Debug)]
pub struct Manage {
    /// The table, such as public.post.
    pub table: String,
    /// How long deleted rows can be restored, such as '30 days'.
    #[arg(long, value_name = "INTERVAL")]
    pub retention: Option<String>,
    /// What a plain DELETE does.
    #[arg(long, value_name = "POLICY")]
    pub on_delete: Option<OnDelete>,
}

/// What a plain DELETE does.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum OnDelete {
    /// It is a soft delete.
    Convert,
    /// It is refused.
    Reject,
    /// It removes the row for good.
    Allow,
}

/// Arguments of `deletions`.
#[derive(Args, Debug)]
pub struct Deletions {
    /// Only deletions in this state.
    #[arg(long)]
    pub state: Option<State>,
    /// Only deletions that started in this table.
    #[arg(long)]
    pub table: Option<String>,
    /// Only deletions of this tenant.
    #[arg(long)]
    pub tenant: Option<String>,
    /// The maximum number to list.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=10_000))]
    pub limit: i64,
}

/// The states of a deletion.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum State {
    /// It can be restored.
    Deleted,
    /// It was restored.
    Restored,
    /// Some of its rows are purged.
    Purging,
    /// All of its rows are purged.
    Purged,
}

/// Arguments of `restore`.
#[derive(Args, Debug)]
pub struct Restore {
    /// The deletion's id.
    pub deletion: Uuid,
    /// Restore what has no conflict, and skip the rest.
    #[arg(long)]
    pub skip: bool,
    /// Only list the conflicts. Changes nothing.
    #[arg(long, conflicts_with = "skip")]
    pub dry_run: bool,
}

/// Arguments of `purge`.
#[derive(Args, Debug)]
pub struct Purge {
    /// Purge this deletion, expired or not.
    #[arg(long, value_name = "ID", conflicts_with = "dry_run")]
    pub deletion: Option<Uuid>,
    /// Rows to remove in one transaction.
    #[arg(long, conflicts_with = "deletion", default_value_t = 1000, value_parser = clap::value_parser!(i32).range(1..=100_000))]
    pub batch: i32,
    /// Only show what would be removed. Changes nothing.
    #[arg(long)]
    pub dry_run: bool,
}

/// Arguments of `hold`.
#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["deletion", "tenant", "table"]))]
pub struct Hold {
    /// Hold all rows of a deletion.
    #[arg(long, value_name = "ID")]
    pub deletion: Option<Uuid>,
    /// Hold all deletions of a tenant.
    #[arg(long)]
    pub tenant: Option<String>,
    /// Hold a row of this table.
    #[arg(long, requires = "key")]
    pub table: Option<String>,
    /// The key of the row; for several columns, a JSON object.
    // clap requires nothing that conflicts with what is given, as the table does with the others of the group.
    #[arg(long, requires = "table", conflicts_with_all = ["deletion", "tenant"])]
    pub key: Option<String>,
    /// The reason to record.
    #[arg(long)]
    pub reason: String,
}

/// Arguments of `erase`.
#[derive(Args, Debug)]
pub struct Erase {
    /// The tenant.
    #[arg(long)]
    pub tenant: String,
    /// Only what this person did in the tenant, by the sub of their tokens.
    #[arg(long)]
    pub subject: Option<String>,
    /// Keep the files that the person uploaded, without the name.
    #[arg(long, requires = "subject")]
    pub keep_files: bool,
    /// The reason to record, such as the number of a ticket. Name nobody in it.
    #[arg(long)]
    pub reason: String,
}

/// A message about the arguments without those that have a URL in them, and with it a password; `None` if there are none.
#[must_use]
pub fn without_urls(message: &str, given: &[OsString]) -> Option<String> {
    let is_url = |text: &&str| text.contains("://");
    let given: Vec<_> = given.iter().map(|one| one.to_string_lossy()).collect();
    // clap names a value without its option.
    let values = given.iter().filter_map(|one| Some(one.split_once('=')?.1));
    let mut hidden: Vec<&str> = given.iter().map(AsRef::as_ref).chain(values).collect();
    hidden.retain(|text| is_url(text));
    if hidden.is_empty() {
        return None;
    }
    // The longest first: one may be the beginning of another.
    hidden.sort_by_key(|text| std::cmp::Reverse(text.len()));
    let message = hidden
        .iter()
        .fold(message.to_owned(), |text, url| text.replace(url, "URL"));
    // Whatever clap has made of it otherwise.
    Some(match is_url(&message.as_str()) {
        false => message,
        true => "error: an argument with a URL is in the wrong place. It is not repeated here."
            .to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, error::ErrorKind};

    use super::*;

    const URL: &str = "postgres://me:secret word@db/app";

    fn refused(arguments: &[&str]) -> clap::Error {
        let all = std::iter::once("keepsake").chain(arguments.iter().copied());
        Arguments::try_parse_from(all).unwrap_err()
    }

    #[test]
    fn the_commands_are_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn no_option_is_ignored() {
        let deletion = "0192f0c1-2b3c-7d4e-8f5a-6b7c8d9e0f1a";
        let words = |line: &str| {
            let words = line.split(' ').map(|word| word.replace("ID", deletion));
            words.collect::<Vec<_>>()
        };
        for line in [
            "hold --tenant a --key 1 --reason x",
            "hold --deletion ID --key 1 --reason x",
            "hold --key 1 --reason x",
            "hold --table t --reason x",
            "hold --tenant a --table t --key 1 --reason x",
            "hold --reason x",
            "purge --deletion ID --batch 5",
            "purge --deletion ID --dry-run",
            "restore ID --skip --dry-run",
            "migrate --dry-run --adopt",
            "erase --tenant a --keep-files --reason x",
        ] {
            let words = words(line);
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let kind = refused(&words).kind();
            assert!(
                matches!(
                    kind,
                    ErrorKind::ArgumentConflict | ErrorKind::MissingRequiredArgument
                ),
                "{line}: {kind:?}"
            );
        }
        for line in [
            "hold --tenant a --reason x",
            "hold --deletion ID --reason x",
            "hold --table t --key 1 --reason x",
            "purge --deletion ID",
            "purge --batch 5",
        ] {
            let words = words(line);
            let all = std::iter::once("keepsake").chain(words.iter().map(String::as_str));
            assert!(Arguments::try_parse_from(all).is_ok(), "{line}");
        }
    }

    #[test]
    fn a_message_repeats_no_url() {
        let with_option = format!("--limit={URL}");
        for arguments in [
            &["doctor", URL][..],
            &[URL, "doctor"],
            &["deletions", &with_option],
            &["deletions", "--limit", URL],
            &["doctor", "--url", URL],
        ] {
            let given: Vec<OsString> = arguments.iter().map(Into::into).collect();
            let message = refused(arguments).render().to_string();
            let hidden = without_urls(&message, &given).unwrap();
            assert!(!hidden.contains("secret"), "{hidden}");
            assert!(!hidden.contains("word"), "{hidden}");
        }
        let given = ["doctor".into(), "--jsn".into()];
        assert_eq!(without_urls("no such option", &given), None);
    }
}
