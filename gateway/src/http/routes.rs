//! Which path answers what.

use std::{sync::Arc, time::Instant};

use axum::{
    Json, Router,
    extract::{Path, RawQuery, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};

use serde_json::json;

use crate::{device::DevicesWatch, journal::JournalStatus};

use super::{
    HttpState, devices, lookup, metrics, page,
    snapshot::Snapshot,
    status::{DeviceDto, StatusDto},
};

#[derive(Clone)]
struct Gateway {
    state: Arc<HttpState>,
    started: Instant,
}

impl Gateway {
    fn snapshot(&self) -> Snapshot {
        Snapshot::take(&self.state, self.started)
    }
}

/// All paths.
pub(super) fn router(state: HttpState, started: Instant) -> Router {
    Router::new()
        .route("/", get(show_page))
        .route("/healthz", get(health))
        .route("/metrics", get(scrape))
        .route("/api/v1/status", get(status))
        .route("/api/v1/devices/{device}", get(device).put(edit_device))
        .route("/api/v1/lookup/{topic}", get(list))
        .route("/api/v1/lookup/{topic}/{key}", get(look_up))
        .fallback(unknown)
        .with_state(Gateway { state: Arc::new(state), started })
}

async fn show_page() -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, page::CONTENT_SECURITY_POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    answer(StatusCode::OK, headers, page::HTML)
}

async fn health(State(gateway): State<Gateway>) -> Response {
    judge(&gateway.state.broker.journal().status())
}

/// Healthy is what accepts records. A centre or a device that is away is not this gateway's
/// illness. Damage is one that it works on with: yellow, not red.
fn judge(journal: &JournalStatus) -> Response {
    match (&journal.poisoned, journal.open_damage) {
        (Some(reason), _) => {
            plain(StatusCode::SERVICE_UNAVAILABLE, format!("the journal stopped: {reason}\n"))
        }
        (None, 0) => plain(StatusCode::OK, "ok\n"),
        (None, ranges) => plain(
            StatusCode::OK,
            format!(
                "degraded: {ranges} damaged ranges in the journal; reads of what was lost answer with an error. \
                 `headwater journal verify` lists them\n"
            ),
        ),
    }
}

async fn scrape(State(gateway): State<Gateway>) -> Response {
    match metrics::render(gateway.snapshot()) {
        Ok(text) => answer(StatusCode::OK, [(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text),
        Err(error) => plain(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

async fn status(State(gateway): State<Gateway>) -> Response {
    let snapshot = gateway.snapshot();
    answer(StatusCode::OK, [], Json(StatusDto::from(&snapshot)))
}

async fn device(State(gateway): State<Gateway>, Path(device): Path<String>) -> Response {
    let all = gateway.state.devices.as_ref().map(DevicesWatch::status).unwrap_or_default();
    match all.iter().find(|status| status.device == device) {
        Some(status) => answer(StatusCode::OK, [], Json(DeviceDto::from(status))),
        None => {
            let error =
                format!("no device {device:?} was ever here; `headwater devices` lists them");
            answer(StatusCode::NOT_FOUND, [], Json(json!({"error": error})))
        }
    }
}

async fn edit_device(
    State(gateway): State<Gateway>,
    Path(device): Path<String>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let watch = gateway.state.devices.as_ref();
    let (code, body) = devices::edit(watch, host, &device, &query.unwrap_or_default()).await;
    answer(code, [], Json(body))
}

async fn look_up(
    State(gateway): State<Gateway>,
    Path((topic, key)): Path<(String, String)>,
) -> Response {
    let (code, body) = lookup::answer(gateway.state.views.as_deref(), &topic, &key).await;
    answer(code, [], Json(body))
}

async fn list(
    State(gateway): State<Gateway>,
    Path(topic): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    let query = query.unwrap_or_default();
    let (code, body) = lookup::list(gateway.state.views.as_ref(), &topic, &query).await;
    answer(code, [], Json(body))
}

async fn unknown() -> Response {
    plain(StatusCode::NOT_FOUND, "not found; try /, /healthz, /metrics or /api/v1/status\n")
}

fn plain(code: StatusCode, text: impl IntoResponse) -> Response {
    answer(code, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text)
}

fn answer<const N: usize>(
    code: StatusCode,
    headers: [(HeaderName, &'static str); N],
    body: impl IntoResponse,
) -> Response {
    let mut response = (code, body).into_response();
    let every = [(header::CACHE_CONTROL, "no-store"), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")];
    for (name, value) in headers.into_iter().chain(every) {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use crate::{
        Shutdown,
        broker::{Broker, BrokerOptions},
        config::{HttpConfig, UplinkConfig},
        http::{Http, HttpState},
        journal::{JournalOptions, JournalStatus, RealDisk},
        uplink::Uplink,
    };

    async fn broker(folder: &std::path::Path) -> std::sync::Arc<Broker> {
        let options = JournalOptions { max_bytes: Some(64 << 20), ..JournalOptions::default() };
        let (journal, state) =
            crate::journal::open(RealDisk::open(folder).unwrap(), &options).unwrap();
        let options = BrokerOptions {
            default_partitions: 1,
            auto_create_topics: true,
            max_message_bytes: 1 << 20,
            topic_defaults: crate::broker::TopicDefaults::default(),
        };
        Broker::open(journal, state, options).await.unwrap()
    }

    async fn get(address: std::net::SocketAddr, path: &str) -> (String, String) {
        ask("GET", "a", address, path).await
    }

    async fn ask(
        method: &str,
        host: &str,
        address: std::net::SocketAddr,
        path: &str,
    ) -> (String, String) {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request =
            format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_lowercase(), body.to_owned())
    }

    #[tokio::test]
    async fn every_path_answers_for_a_real_broker() {
        let folder = tempfile::tempdir().unwrap();
        let broker = broker(folder.path()).await;
        broker.create_topic("readings", Some(2), BTreeMap::new()).await.unwrap();
        let config = UplinkConfig { bootstrap: vec!["127.0.0.1:1".into()], ..Default::default() };
        let uplink = Uplink::new(config, broker.clone());
        let state = HttpState {
            broker,
            devices: None,
            bridges: Vec::new(),
            uplink: Some(uplink.watch()),
            views: None,
        };
        let listen = "127.0.0.1:0".parse().unwrap();
        let http = Http::bind(&HttpConfig { listen, ..Default::default() }, state).await.unwrap();
        let (address, shutdown) = (http.local_addr(), Shutdown::new());
        let task = tokio::spawn(http.run(shutdown.clone()));

        for (path, code, content_type, word) in [
            ("/", "200", "text/html", "<title>Headwater</title>"),
            ("/healthz", "200", "text/plain", "ok"),
            ("/metrics", "200", "application/openmetrics-text; version=1.0.0", "# EOF"),
            ("/metrics", "200", "charset=utf-8", "topic=\"readings\",partition=\"1\""),
            ("/api/v1/status", "200", "application/json", "\"name\":\"readings\""),
            ("/api/v1/status?x=1", "200", "application/json", "\"lag_records\":0"),
            ("/api/v1/lookup/readings/a", "404", "application/json", "key_lookup"),
            ("/api/v1/lookup/readings?limit=5", "404", "application/json", "key_lookup"),
            ("/api/v1/lookup/readings?limit=x", "400", "application/json", "1 to 1000"),
            ("/api/v1/devices/d-1", "404", "application/json", "no device"),
            ("/api/v1/other", "404", "text/plain", "not found"),
            ("/../../etc/passwd", "404", "text/plain", "not found"),
        ] {
            let (head, body) = get(address, path).await;
            assert!(head.starts_with(&format!("http/1.1 {code}")), "{path}: {head}");
            assert!(
                head.contains("content-type: ") && head.contains(content_type),
                "{path}: {head}"
            );
            assert!(head.contains("x-content-type-options: nosniff"), "{path}: {head}");
            assert!(body.contains(word), "{path}: {body}");
        }
        for (path, code, word) in [
            ("/api/v1/devices/d-1?name=x", "404", "no device link"),
            ("/api/v1/devices/d-1?nme=x", "400", "none of name"),
            ("/api/v1/status", "405", ""),
        ] {
            let (head, body) = ask("PUT", "127.0.0.1", address, path).await;
            assert!(
                head.starts_with(&format!("http/1.1 {code}")) && body.contains(word),
                "{head} {body}"
            );
        }
        let (head, _) = ask("PUT", "other.example", address, "/api/v1/devices/d-1?name=x").await;
        assert!(head.starts_with("http/1.1 403"), "{head}");
        let (head, _) = get(address, "/").await;
        assert!(head.contains("content-security-policy: default-src 'none'"), "{head}");
        shutdown.request();
        task.await.unwrap();
    }

    #[tokio::test]
    async fn a_poisoned_journal_is_red_and_a_damaged_one_yellow() {
        let poisoned = Some("EIO in segment 7".to_owned());
        let cases = [
            (None, 0, 200, "ok\n"),
            (None, 2, 200, "degraded: 2 damaged ranges"),
            (poisoned, 2, 503, "the journal stopped: EIO in segment 7\n"),
        ];
        for (poisoned, open_damage, code, text) in cases {
            let status = JournalStatus { poisoned, open_damage, ..JournalStatus::default() };
            let answer = super::judge(&status);
            assert_eq!(answer.status(), code);
            let body = axum::body::to_bytes(answer.into_body(), 1_000).await.unwrap();
            assert!(body.starts_with(text.as_bytes()), "{body:?}");
        }
    }

    #[tokio::test]
    async fn beyond_loopback_only_when_it_is_meant() {
        let folder = tempfile::tempdir().unwrap();
        let broker = broker(folder.path()).await;
        let state =
            HttpState { broker, devices: None, bridges: Vec::new(), uplink: None, views: None };
        let mut config =
            HttpConfig { listen: "0.0.0.0:0".parse().unwrap(), allow_plaintext: false };
        let error = Http::bind(&config, state.clone()).await.unwrap_err();
        assert!(error.to_string().contains("allow_plaintext"), "{error}");
        config.allow_plaintext = true;
        Http::bind(&config, state).await.unwrap();
    }
}
