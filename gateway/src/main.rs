//! The `headwater` binary: wiring only.

use std::process::ExitCode;

fn main() -> ExitCode {
    headwater::cli::main()
}
