//! What single statements cost the server, by pgbench. Its backends end with it, and then Linux's count of the server's ended children has their time:
//! that of the processor, which does not depend on what else the machine does as much as the time on the clock.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::postgres::Postgres;

/// How often a statement is run, and by how many clients at once.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Clients, each with a connection.
    pub clients: u32,
    /// Transactions of each.
    pub transactions: u32,
}

/// Runs a statement, prepared, one a transaction. In it, `:id` is another whole number each time, from 1 to clients × transactions. Answers with the
/// milliseconds of the processor that all backends took.
pub async fn cost(postgres: &Postgres, folder: &Path, load: Load, statement: &str) -> Result<f64> {
    let Load {
        clients,
        transactions,
    } = load;
    let script = folder.join("statement.sql");
    fs::write(
        &script,
        format!("\\set n :n + 1\n\\set id :client_id * {transactions} + :n\n{statement};\n"),
    )?;
    let server = Server::of(postgres)?;
    let before = server.ended()?;
    let output = postgres
        .program("pgbench")?
        .args(["--no-vacuum", "--protocol=prepared", "--define=n=0"])
        .arg(format!("--client={clients}"))
        .arg(format!("--transactions={transactions}"))
        .arg("--file")
        .arg(&script)
        .output()?;
    ensure!(
        output.status.success(),
        "pgbench: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    // The server is told of its children's ends a moment later.
    tokio::time::sleep(Duration::from_millis(300)).await;
    Ok(server.ended()? - before)
}

/// What Linux tells of the server's first process.
struct Server(PathBuf);

impl Server {
    /// By the file that the server keeps the process's number in.
    fn of(postgres: &Postgres) -> Result<Self> {
        let file = fs::read_to_string(postgres.folder().join("data/postmaster.pid"))?;
        let process = file.lines().next().context("no number in postmaster.pid")?;
        Ok(Self(PathBuf::from(format!("/proc/{process}/stat"))))
    }

    /// Milliseconds of the processor that its ended children had, to a hundredth of a second.
    fn ended(&self) -> Result<f64> {
        let stat = fs::read_to_string(&self.0)?;
        let (_, numbers) = stat.rsplit_once(')').context("no name in /proc/…/stat")?;
        let numbers: Vec<&str> = numbers.split_whitespace().collect();
        // After the name: state is the first; the 14th and 15th are those of the children.
        let ticks = |at: usize| {
            numbers
                .get(at)
                .context("too few numbers in /proc/…/stat")?
                .parse::<f64>()
                .context("not a number")
        };
        Ok((ticks(13)? + ticks(14)?) * 10.0)
    }
}
