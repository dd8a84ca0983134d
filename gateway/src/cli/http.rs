//! The gateway's HTTP API as commands ask it.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use axum::body::{Body, to_bytes};
use hyper::{Method, Request, StatusCode, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{net::TcpStream, time::timeout};

/// Where a gateway listens by default.
const DEFAULT_ADDRESS: &str = "127.0.0.1:8080";
/// A person waits for this.
const PATIENCE: Duration = Duration::from_secs(10);
/// Most bytes of an answer: 10,000 devices with all that is known of them.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// Which gateway a command asks.
#[derive(Debug, clap::Args)]
pub(super) struct Api {
    /// Address of the gateway's HTTP API
    #[arg(long, value_name = "HOST:PORT", default_value = DEFAULT_ADDRESS, global = true)]
    pub(super) http: String,
}

impl Api {
    pub(super) async fn get(&self, path: &str) -> Result<Value> {
        self.ask(Method::GET, path).await
    }

    pub(super) async fn put(&self, path: &str) -> Result<Value> {
        self.ask(Method::PUT, path).await
    }

    async fn ask(&self, method: Method, path: &str) -> Result<Value> {
        let address = &self.http;
        let asked = timeout(PATIENCE, self.exchange(method, path)).await;
        let asked = asked.map_err(|_| anyhow!("no answer within {PATIENCE:?}"));
        let (code, body) = asked.and_then(|asked| asked).with_context(|| {
            format!("no gateway at {address}: start one with `headwater serve`, or name another with --http")
        })?;
        let body: Value = serde_json::from_slice(&body)
            .with_context(|| format!("what answers at {address} is no Headwater gateway"))?;
        if code.is_success() {
            return Ok(body);
        }
        bail!("{}", body["error"].as_str().unwrap_or("the gateway refused"))
    }

    async fn exchange(&self, method: Method, path: &str) -> Result<(StatusCode, Vec<u8>)> {
        let stream = TcpStream::connect(&self.http).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(hyper::header::HOST, &self.http)
            .body(Body::empty())?;
        let response = sender.send_request(request).await?;
        let code = response.status();
        let body = to_bytes(Body::new(response.into_body()), MAX_ANSWER_BYTES).await?;
        connection.abort();
        Ok((code, body.to_vec()))
    }
}
