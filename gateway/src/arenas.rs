//! How many arenas the C library's allocator keeps. It must not touch the data folder or the configuration.
//!
//! glibc gives each thread an arena, up to eight for each core, and memory that was freed in one is not used in another.
//! With a thousand partitions under load that was a fifth of the gateway's memory (48.7 MiB against 39.1 with two).
//! The number can be set from outside only, before the program starts, or by a call that needs `unsafe`.

use std::{env, os::unix::process::CommandExt, process::Command};

/// glibc reads it once, at the start of a program.
const VARIABLE: &str = "MALLOC_ARENA_MAX";
/// One for the threads of the journal, so to speak, and one for those of the network: they wait for each other seldom.
const ARENAS: &str = "2";

/// Starts the program anew, as the same process, with few arenas; returns if the environment names a number already,
/// where another allocator is in use, or if it cannot be done.
pub fn limit() {
    if cfg!(not(target_env = "gnu")) || env::var_os(VARIABLE).is_some() {
        return;
    }
    let Ok(program) = env::current_exe() else { return };
    let mut command = Command::new(program);
    let mut arguments = env::args_os();
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    let error = command.args(arguments).env(VARIABLE, ARENAS).exec();
    // Logging is not set up yet, and more memory is no reason not to start.
    eprintln!("cannot limit the allocator's arenas ({error}); going on with more memory");
}
