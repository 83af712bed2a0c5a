//! See `keepsake --help`, and `docs/cli.md`.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use keepsake_cli::arguments::Arguments;
use keepsake_cli::failure::Exit;

/// How long work that nobody waits for may still take before the program ends, such as a write to a disk that hangs.
const LAST_WORK: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    // If the arguments are wrong, clap itself exits with 2.
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("cannot start: {error}");
            return Exit::Usage.into();
        }
    };
    let exit = runtime.block_on(run(arguments));
    runtime.shutdown_timeout(LAST_WORK);
    exit
}

async fn run(arguments: Arguments) -> ExitCode {
    let json = arguments.json;
    let (text, exit) = match keepsake_cli::run(arguments).await {
        Ok(report) => (report.render(json), report.exit),
        Err(failure) => {
            if json {
                eprintln!("{}", failure.json());
            } else {
                eprintln!("{failure}");
            }
            (String::new(), failure.exit())
        }
    };
    // A reader that has closed its end, such as `head`, is no failure.
    let printed = std::io::stdout().write_all(text.as_bytes());
    match printed {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Exit::Usage.into(),
        _ => exit.into(),
    }
}
