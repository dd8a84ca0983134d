//! The TCP listener: a bounded number of connections, a task for each.

use std::{sync::Arc, time::Duration};

use tokio::{net::TcpListener, sync::Semaphore, task::JoinSet, time::sleep};

use super::{
    connection::{self, Patience},
    hub::Hub,
};
use crate::Shutdown;

/// Pause after a failed accept (out of file descriptors, most likely).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts until shutdown, then waits for the connections to drain.
pub(super) async fn serve(
    listener: TcpListener,
    max_connections: usize,
    hub: Hub,
    shutdown: Shutdown,
) {
    let slots = Arc::new(Semaphore::new(max_connections));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.requested() => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "device listener: accept failed");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Closing tells the device to come back later; leaving it in the backlog would tell it nothing.
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
            tracing::debug!(%peer, max_connections, "device connection refused: all in use");
            continue;
        };
        let hub = hub.clone();
        let shutdown = shutdown.clone();
        connections.spawn(async move {
            let _ = stream.set_nodelay(true);
            let ended =
                connection::serve(stream, format!("tcp {peer}"), Patience::TCP, &hub, &shutdown)
                    .await;
            tracing::debug!(%peer, %ended, "device connection ended");
            drop(slot);
        });
    }
    while connections.join_next().await.is_some() {}
}
