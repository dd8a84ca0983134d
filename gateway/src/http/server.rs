//! The HTTP/1.1 server: accepts connections and bounds what each may cost.

use std::{sync::Arc, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
};

use super::guard::Guarded;
use crate::Shutdown;

/// Header lines of one request.
const MAX_HEADERS: usize = 64;
/// How long answers in flight may take once a stop was asked for.
const DRAIN: Duration = Duration::from_secs(1);
/// Pause after an accept that failed for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What connections may cost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Connections at once; more wait in the listener's queue.
    pub(super) connections: usize,
    /// Request line and headers together, in bytes.
    pub(super) head_bytes: usize,
    /// For a request's head to arrive, and how long a connection may idle between two.
    pub(super) head_timeout: Duration,
    /// A write without progress ends the connection after so long.
    pub(super) write_timeout: Duration,
    /// The longest life of a connection: nobody holds one of the few for ever. A browser just opens
    /// the next.
    pub(super) life: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 64,
            head_bytes: 16 * 1024,
            head_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(10),
            life: Duration::from_secs(300),
        }
    }
}

/// Serves `router` until shutdown.
pub(super) async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    shutdown: Shutdown,
) {
    let permits = Arc::new(Semaphore::new(limits.connections));
    let mut connections = JoinSet::new();
    loop {
        let permit = tokio::select! {
            permit = permits.clone().acquire_owned() => permit,
            () = shutdown.requested() => break,
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.requested() => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let connection = connection(stream, router.clone(), limits, shutdown.clone());
                connections.spawn(async move {
                    connection.await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "http: accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    // Whoever does not finish in time is cut when the set is dropped.
    let _ = tokio::time::timeout(DRAIN, drained).await;
}

async fn connection(stream: TcpStream, router: Router, limits: Limits, shutdown: Shutdown) {
    let stream = TokioIo::new(Guarded::new(stream, limits.write_timeout));
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .max_headers(MAX_HEADERS)
        .max_buf_size(limits.head_bytes)
        .serve_connection(stream, TowerToHyperService::new(router));
    tokio::pin!(serving);
    let ended = tokio::select! {
        ended = &mut serving => ended,
        () = shutdown.requested() => finish(serving).await,
        () = tokio::time::sleep(limits.life) => finish(serving).await,
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "http: connection ended");
    }
}

type Serving<'a> = std::pin::Pin<
    &'a mut http1::Connection<TokioIo<Guarded<TcpStream>>, TowerToHyperService<Router>>,
>;

/// Answers what is in flight, then closes.
async fn finish(mut serving: Serving<'_>) -> hyper::Result<()> {
    serving.as_mut().graceful_shutdown();
    tokio::time::timeout(DRAIN, serving).await.unwrap_or(Ok(()))
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const LIMITS: Limits = Limits {
        connections: 2,
        head_bytes: 16 * 1024,
        head_timeout: Duration::from_millis(200),
        write_timeout: Duration::from_millis(200),
        life: Duration::from_secs(60),
    };

    struct Running {
        address: std::net::SocketAddr,
        shutdown: Shutdown,
        task: tokio::task::JoinHandle<()>,
    }

    async fn start(limits: Limits) -> Running {
        let router = Router::new()
            .route("/", get(async || "hello"))
            .route("/large", get(async || vec![b'x'; 64 * 1024 * 1024]));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = Shutdown::new();
        let task = tokio::spawn(serve(listener, router, limits, shutdown.clone()));
        Running { address, shutdown, task }
    }

    /// Sends bytes and reads until the server closes, at most ten seconds.
    async fn exchange(address: std::net::SocketAddr, request: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // The server may close before it has read all of it.
        let _ = stream.write_all(request).await;
        let mut answer = Vec::new();
        let reading = stream.read_to_end(&mut answer);
        let _ = tokio::time::timeout(Duration::from_secs(10), reading).await.expect("closed");
        answer
    }

    #[tokio::test]
    async fn requests_are_answered_and_odd_ones_refused() {
        let server = start(LIMITS).await;
        let long_line = [b"GET /".as_slice(), &[b'a'; 40_000], b" HTTP/1.1\r\n\r\n"].concat();
        let many_headers = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(1_000));
        for (request, expect) in [
            (&b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"[..], &b"HTTP/1.1 200"[..]),
            (b"POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", b"HTTP/1.1 405"),
            (b"\x00\xff\x16\x03\r\n\r\n", b"HTTP/1.1 400"),
            (&long_line, b"HTTP/1.1 4"),
            (many_headers.as_bytes(), b"HTTP/1.1 431"),
        ] {
            let answer = exchange(server.address, request).await;
            let shown = String::from_utf8_lossy(&answer[..answer.len().min(80)]).into_owned();
            assert!(answer.starts_with(expect), "{shown}");
        }
    }

    #[tokio::test]
    async fn a_body_that_nobody_wants_is_not_waited_for() {
        let server = start(LIMITS).await;
        let request = b"GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000000\r\n\r\nabc";
        let answer = exchange(server.address, request).await;
        assert!(answer.starts_with(b"HTTP/1.1 200"));
    }

    #[tokio::test]
    async fn idle_and_dripping_clients_free_their_place() {
        let server = start(LIMITS).await;
        let idle = TcpStream::connect(server.address).await.unwrap();
        let mut dripping = TcpStream::connect(server.address).await.unwrap();
        dripping.write_all(b"GET / HTTP/1.1\r\nx: ").await.unwrap();
        // Both places are taken; this one is served once they were cut.
        let answer =
            exchange(server.address, b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
                .await;
        assert!(answer.starts_with(b"HTTP/1.1 200"));
        drop((idle, dripping));
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_its_answer_frees_its_place() {
        let server = start(Limits { connections: 1, ..LIMITS }).await;
        let mut deaf = TcpStream::connect(server.address).await.unwrap();
        deaf.write_all(b"GET /large HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        let answer =
            exchange(server.address, b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
                .await;
        assert!(answer.starts_with(b"HTTP/1.1 200"));
        drop(deaf);
    }

    #[tokio::test]
    async fn a_long_lived_connection_is_ended() {
        let server = start(Limits { life: Duration::from_millis(100), ..LIMITS }).await;
        let answer = exchange(server.address, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert!(
            answer.starts_with(b"HTTP/1.1 200"),
            "answered, then closed although it was kept alive"
        );
    }

    #[tokio::test]
    async fn a_stop_ends_idle_connections_at_once() {
        let server = start(Limits { head_timeout: Duration::from_secs(60), ..LIMITS }).await;
        let _idle = TcpStream::connect(server.address).await.unwrap();
        let mut kept = TcpStream::connect(server.address).await.unwrap();
        kept.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        let mut first = [0; 12];
        kept.read_exact(&mut first).await.unwrap();
        server.shutdown.request();
        tokio::time::timeout(Duration::from_secs(2), server.task).await.expect("stopped").unwrap();
    }
}
