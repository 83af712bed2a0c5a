//! See `keepsake --help`, and `docs/operations.md`.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use keepsake_cli::arguments::Arguments;
use keepsake_cli::failure::Exit;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    // clap itself leaves with 2 when the arguments are wrong.
    let arguments = Arguments::parse();
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
    // A reader that has gone, such as `head`, is no failure.
    let printed = std::io::stdout().write_all(text.as_bytes());
    match printed {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Exit::Usage.into(),
        _ => exit.into(),
    }
}
