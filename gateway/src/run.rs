//! Starts every service of the gateway and stops them in order.

use crate::{Config, Shutdown};

/// Why the gateway could not start or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// Placeholder until wiring exists.
    #[error("not wired yet")]
    NotWired,
}

/// Runs the gateway until shutdown.
pub async fn run(config: Config, shutdown: Shutdown) -> Result<(), RunError> {
    let _ = (config, shutdown);
    Err(RunError::NotWired)
}
