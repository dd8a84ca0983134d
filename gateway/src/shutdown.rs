//! The one signal that asks every service of the gateway to drain and stop.

use tokio::sync::watch;

/// Cheap to clone; every service holds one and ends its loops when [`Shutdown::requested`] resolves.
#[derive(Clone, Debug)]
pub struct Shutdown {
    sender: std::sync::Arc<watch::Sender<bool>>,
    receiver: watch::Receiver<bool>,
}

impl Shutdown {
    /// A signal that nobody has given yet.
    #[must_use]
    pub fn new() -> Self {
        let (sender, receiver) = watch::channel(false);
        Self { sender: std::sync::Arc::new(sender), receiver }
    }

    /// Asks everyone to stop; may be called any number of times.
    pub fn request(&self) {
        self.sender.send_replace(true);
    }

    /// Whether a stop has been asked for.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        *self.receiver.borrow()
    }

    /// Resolves once a stop has been asked for; cancel-safe.
    pub async fn requested(&self) {
        let mut receiver = self.receiver.clone();
        // The sender lives in self, so the channel cannot close while this waits.
        let _ = receiver.wait_for(|&stop| stop).await;
    }
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}
