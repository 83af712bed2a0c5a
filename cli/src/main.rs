//! See `keepsake --help`, and `docs/cli.md`.

#![warn(clippy::print_stderr, clippy::print_stdout)]

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use keepsake_cli::arguments::{Arguments, without_urls};
use keepsake_cli::failure::{Exit, Failure};
use keepsake_cli::output;

/// How long work that nobody waits for may still take before the program ends, such as a write to a disk that hangs.
const LAST_WORK: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return explain(&error),
    };
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            output::complain(&format!("error: cannot start\n  why: {error}"));
            return Exit::Findings.into();
        }
    };
    let exit = runtime.block_on(run(arguments));
    runtime.shutdown_timeout(LAST_WORK);
    exit.into()
}

/// Help, the version, or what is wrong with the arguments.
fn explain(error: &clap::Error) -> ExitCode {
    if error.use_stderr() {
        let given: Vec<OsString> = std::env::args_os().collect();
        match without_urls(&error.render().to_string(), &given) {
            Some(hidden) => output::complain(hidden.trim_end()),
            // Nobody may read it.
            None => drop(error.print()),
        }
        return Exit::Usage.into();
    }
    told(output::unless_closed(error.print()), "", false)
        .unwrap_or(Exit::Ok)
        .into()
}

async fn run(arguments: Arguments) -> Exit {
    let json = arguments.json;
    match keepsake_cli::run(arguments).await {
        Ok(report) => {
            let text = report.render(json);
            told(output::result(&text), &text, json).unwrap_or(report.exit)
        }
        Err(failure) => report(&failure, json),
    }
}

/// The exit code of a result that could not be written, which is said.
fn told(printed: std::io::Result<()>, text: &str, json: bool) -> Option<Exit> {
    let why = printed.err()?.to_string();
    Some(report(&Failure::unwritten(why, text), json))
}

fn report(failure: &Failure, json: bool) -> Exit {
    if json {
        output::complain(&failure.json().to_string());
    } else {
        output::complain(&output::shown(&failure.to_string()));
    }
    failure.exit()
}
