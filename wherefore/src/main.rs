//! The `wherefore` command.

use std::process::ExitCode;

use wherefore::cli;

fn main() -> ExitCode {
    match cli::parse(std::env::args_os()) {
        Ok(parsed) => ExitCode::from(cli::execute(&parsed)),
        Err(error) => error.exit(),
    }
}
