//! The listener: accepts connections within limits, and lets them finish on shutdown.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{Shutdown, broker::Broker, config::KafkaConfig};

use super::{
    connection,
    context::{Context, Endpoint},
    refusal::{Refusal, RefusalLog},
    timer::Patience,
};

/// Time for answers in flight after a stop was asked for; the whole gateway has two seconds.
const DRAIN: Duration = Duration::from_secs(1);

/// Pause after a failed accept (out of file descriptors, mostly), so that it does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// One remote address may hold this part of all connections. The loopback address may hold all.
const ADDRESS_SHARE: usize = 2;

/// A bound listener.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    local_addr: SocketAddr,
    config: KafkaConfig,
    advertised: Option<Endpoint>,
    broker: Arc<Broker>,
    patience: Patience,
    data_folder: PathBuf,
}

impl Server {
    /// Binds the listener; connections are accepted once it runs.
    pub async fn bind(config: &KafkaConfig, broker: Arc<Broker>) -> io::Result<Self> {
        let listener = TcpListener::bind(config.listen).await?;
        let local_addr = listener.local_addr()?;
        let advertised = match &config.advertised {
            Some(text) => Some(Endpoint::parse(text, local_addr.port()).ok_or_else(|| {
                io::Error::new(
                    io::ErrorKind::InvalidInput,
                    format!("kafka.advertised = {text:?}: write the host (or host:port) under which clients reach this gateway"),
                )
            })?),
            None => None,
        };
        Ok(Self {
            listener,
            local_addr,
            config: config.clone(),
            advertised,
            broker,
            patience: Patience::default(),
            data_folder: PathBuf::new(),
        })
    }

    /// Tells clients who ask for it where the gateway keeps its data.
    #[must_use]
    pub fn with_data_folder(self, data_folder: &Path) -> Self {
        let absolute = std::path::absolute(data_folder);
        Self { data_folder: absolute.unwrap_or_else(|_| data_folder.to_owned()), ..self }
    }

    /// The bound address (with the port that the system chose, if it was asked to).
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// With other times than a gateway's.
    #[cfg(test)]
    pub(crate) fn with_patience(self, patience: Patience) -> Self {
        Self { patience, ..self }
    }

    /// Serves until shutdown, then answers what is in flight and returns.
    pub async fn run(self, shutdown: Shutdown) {
        let mut context = Context::new(&self.config, self.broker, shutdown.clone());
        context.patience = self.patience;
        context.data_folder = self.data_folder.to_string_lossy().as_ref().into();
        let context = Arc::new(context);
        let seats = Seats::new(self.config.max_connections);
        let refusals = RefusalLog::default();
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                biased;
                () = shutdown.requested() => break,
                Some(_) = connections.join_next() => continue,
                accepted = self.listener.accept() => accepted,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!("kafka listener cannot accept: {error}");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let seat = match seats.take(peer.ip()) {
                Ok(seat) => seat,
                Err(refusal) => {
                    refusals.note(peer, &refusal);
                    continue;
                }
            };
            let Some(endpoint) = endpoint(&stream, self.advertised.as_ref()) else { continue };
            let context = Arc::clone(&context);
            connections.spawn(async move {
                connection::serve(stream, peer, endpoint, context).await;
                drop(seat);
            });
        }
        drop(self.listener);
        let drained = timeout(DRAIN, async { while connections.join_next().await.is_some() {} });
        if drained.await.is_err() {
            tracing::warn!(left = connections.len(), "kafka connections were cut at shutdown");
            connections.shutdown().await;
        }
    }
}

/// Prepares an accepted socket; `None` if it is gone already.
fn endpoint(stream: &TcpStream, advertised: Option<&Endpoint>) -> Option<Endpoint> {
    // Responses are whole when they are written; waiting for more would only delay them.
    stream.set_nodelay(true).ok()?;
    match advertised {
        Some(endpoint) => Some(endpoint.clone()),
        None => stream.local_addr().ok().map(Endpoint::of_socket),
    }
}

/// Connections that are open, in total and by address.
#[derive(Clone, Debug)]
struct Seats {
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
    max: usize,
}

/// One open connection; leaves on drop.
#[derive(Debug)]
struct Seat {
    seats: Seats,
    address: IpAddr,
}

impl Seats {
    fn new(max: usize) -> Self {
        Self { taken: Arc::default(), max }
    }

    fn take(&self, address: IpAddr) -> Result<Seat, Refusal> {
        let mut taken = self.lock();
        if taken.values().sum::<usize>() >= self.max {
            return Err(Refusal::Connections(self.max));
        }
        let max_of_address = match address.to_canonical().is_loopback() {
            true => self.max,
            false => self.max.div_ceil(ADDRESS_SHARE),
        };
        let of_address = taken.entry(address).or_default();
        if *of_address >= max_of_address {
            return Err(Refusal::ConnectionsOfAddress(max_of_address));
        }
        *of_address += 1;
        Ok(Seat { seats: self.clone(), address })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.taken.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.lock();
        if let Some(of_address) = taken.get_mut(&self.address) {
            *of_address -= 1;
            if *of_address == 0 {
                taken.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_are_limited_in_total_and_by_address() {
        let seats = Seats::new(4);
        let far: IpAddr = "192.0.2.1".parse().expect("an address");
        let first = seats.take(far).expect("a seat");
        let _second = seats.take(far).expect("a seat");
        assert!(matches!(seats.take(far), Err(Refusal::ConnectionsOfAddress(2))));
        let near = IpAddr::from([127, 0, 0, 1]);
        let _near: Vec<Seat> = (0..2).map(|_| seats.take(near).expect("a seat")).collect();
        assert!(matches!(seats.take(near), Err(Refusal::Connections(4))));
        drop(first);
        seats.take(far).expect("the seat that was left");
    }
}
