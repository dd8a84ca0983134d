//! Which path answers what.

use std::{sync::Arc, time::Instant};

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};

use super::{HttpState, metrics, page, snapshot::Snapshot, status::StatusDto};

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
    match gateway.state.broker.journal().status().poisoned {
        None => plain(StatusCode::OK, "ok\n"),
        Some(reason) => {
            plain(StatusCode::SERVICE_UNAVAILABLE, format!("the journal stopped: {reason}\n"))
        }
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
