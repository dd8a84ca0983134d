//! How the C library's allocator behaves. It must not touch the data folder or the configuration.
//!
//! - glibc gives each thread an arena, up to eight for each core, and memory that was freed in one is not used in another.
//!   With a thousand partitions under load that was a fifth of the gateway's memory (48.7 MiB against 39.1 with two).
//! - What was freed goes back to the system only where it was mapped by itself, and glibc maps fewer and larger things by
//!   themselves each time one is freed: batches that decompress to 16 MiB left 70 to 87 MiB behind, with fixed thresholds
//!   40.
//!
//! These can be set from outside only, before the program starts, or by a call that needs `unsafe`.

use std::{env, os::unix::process::CommandExt, process::Command};

/// glibc reads them once, at the start of a program.
const SETTINGS: [(&str, &str); 3] = [
    // One for the threads of the journal, so to speak, and one for those of the network: they wait for each other seldom.
    ("MALLOC_ARENA_MAX", "2"),
    // Above the buffers that are used over and over: frames, and what a fetch reads.
    ("MALLOC_MMAP_THRESHOLD_", "4194304"),
    ("MALLOC_TRIM_THRESHOLD_", "4194304"),
];

/// Starts the program anew, as the same process, with an allocator that keeps little; returns if the environment sets it up
/// already, where another allocator is in use, or if it cannot be done.
pub fn limit() {
    let is_set_up = SETTINGS.iter().any(|(name, _)| env::var_os(name).is_some());
    if cfg!(not(target_env = "gnu")) || is_set_up {
        return;
    }
    let Ok(program) = env::current_exe() else { return };
    let mut command = Command::new(program);
    let mut arguments = env::args_os();
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    let error = command.args(arguments).envs(SETTINGS).exec();
    // Logging is not set up yet, and more memory is no reason not to start.
    eprintln!("cannot limit the allocator's memory ({error}); going on with more");
}
