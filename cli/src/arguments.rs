//! What is typed.

use clap::{Args, Parser, Subcommand, ValueEnum};
use uuid::Uuid;

/// Installs and updates Keepsake in a PostgreSQL database, and operates it.
///
/// Exit codes: 0 done; 1 findings, conflicts, or something else in the database stands in the way; 2 the call makes no sense;
/// 3 the database cannot be reached or refused.
#[derive(Debug, Parser)]
#[command(name = "keepsake", version)]
pub struct Arguments {
    /// The database: postgres://user@host:5432/database?sslmode=verify-full. PGPASSWORD or ~/.pgpass may hold the password.
    #[arg(
        long,
        global = true,
        env = "DATABASE_URL",
        hide_env_values = true,
        value_name = "URL"
    )]
    pub database_url: Option<String>,
    /// Print JSON, for machines.
    #[arg(long, global = true)]
    pub json: bool,
    /// Who does it, as deletions and holds record it; without it, the role that is logged in.
    #[arg(long, global = true, value_name = "NAME")]
    pub actor: Option<String>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Install or update the extension and the schema, then look for problems.
    Migrate(Migrate),
    /// Look for problems in the database, each with the SQL that fixes it.
    Doctor,
    /// Let Keepsake manage a table: its rows are deleted softly from then on.
    Manage(Manage),
    /// List deletions, the newest first.
    Deletions(Deletions),
    /// Bring back what a deletion removed.
    Restore(Restore),
    /// Remove for good what has expired.
    Purge(Purge),
    /// Keep rows from being purged.
    Hold(Hold),
    /// End a hold.
    Release {
        /// Its number, as `keepsake hold` printed it.
        hold: i64,
    },
    /// Show what deleting a row would take with it. Nothing is changed.
    Plan {
        /// The table, such as public.post.
        table: String,
        /// The row's key; of several columns, as JSON.
        key: String,
    },
}

/// Arguments of `migrate`.
#[derive(Args, Debug)]
pub struct Migrate {
    /// Print the SQL instead of running it.
    #[arg(long)]
    pub dry_run: bool,
    /// The migrations were applied by hand: record those that the schema's version says, and go on from there.
    #[arg(long, conflicts_with = "dry_run")]
    pub adopt: bool,
}

/// Arguments of `manage`.
#[derive(Args, Debug)]
pub struct Manage {
    /// The table, such as public.post.
    pub table: String,
    /// How long its deleted rows can be restored, such as '30 days'.
    #[arg(long, value_name = "INTERVAL")]
    pub retention: Option<String>,
    /// What a plain DELETE does.
    #[arg(long, value_name = "WHAT")]
    pub on_delete: Option<OnDelete>,
}

/// What a plain DELETE does.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum OnDelete {
    /// It deletes softly.
    Convert,
    /// It is refused.
    Reject,
    /// It removes the row for good.
    Allow,
}

/// Arguments of `deletions`.
#[derive(Args, Debug)]
pub struct Deletions {
    /// Only those of this state.
    #[arg(long)]
    pub state: Option<State>,
    /// Only those that began in this table.
    #[arg(long)]
    pub table: Option<String>,
    /// Only those of this tenant.
    #[arg(long)]
    pub tenant: Option<String>,
    /// How many at most.
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
    /// Bring back what has a place, and skip the rest.
    #[arg(long)]
    pub skip: bool,
    /// List the conflicts instead. Nothing is changed.
    #[arg(long, conflicts_with = "skip")]
    pub dry_run: bool,
}

/// Arguments of `purge`.
#[derive(Args, Debug)]
pub struct Purge {
    /// This deletion, expired or not.
    #[arg(long, value_name = "ID", conflicts_with = "dry_run")]
    pub deletion: Option<Uuid>,
    /// Rows removed in one transaction.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(i32).range(1..=100_000))]
    pub batch: i32,
    /// Show what would be removed instead. Nothing is changed.
    #[arg(long)]
    pub dry_run: bool,
}

/// Arguments of `hold`.
#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["deletion", "tenant", "table"]))]
pub struct Hold {
    /// All rows of a deletion.
    #[arg(long, value_name = "ID")]
    pub deletion: Option<Uuid>,
    /// All deletions of a tenant.
    #[arg(long)]
    pub tenant: Option<String>,
    /// A row of this table.
    #[arg(long, requires = "key")]
    pub table: Option<String>,
    /// Its key; of several columns, as JSON.
    #[arg(long, requires = "table")]
    pub key: Option<String>,
    /// Why.
    #[arg(long)]
    pub reason: String,
}
