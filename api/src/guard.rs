//! What every request passes: it must be meant for this server, must not come from a web page, and
//! gets an answer in bounded time.

use std::{any::Any, net::IpAddr, time::Duration};

use axum::{
    extract::Request,
    http::{Uri, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};

use crate::problem::ApiError;

/// How long an answer may take to begin; more than the longest `wait`.
const ANSWER_BEGINS: Duration = Duration::from_secs(90);
/// The same for what reads the whole ledger.
const LONG_ANSWER_BEGINS: Duration = Duration::from_secs(6 * 3600);

/// Let a request through to its route.
///
/// A server on loopback is within reach of every page in the user's browser, by DNS rebinding even
/// under a name of the page's own: hence the names are checked, and who sends an `Origin` is
/// refused. Programs send none.
pub(crate) async fn pass(request: Request, next: Next) -> Response {
    let headers = request.headers();
    if headers.contains_key(header::ORIGIN) {
        return ApiError::origin_refused().into_response();
    }
    let named = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let in_target = request.uri().authority().map(axum::http::uri::Authority::as_str);
    if let Some(host) = [Some(named), in_target].into_iter().flatten().find(|h| !is_loopback(h)) {
        return ApiError::unknown_host(host).into_response();
    }
    let limit = time_limit(request.uri());
    let answered = tokio::time::timeout(limit, next.run(request)).await;
    answered.unwrap_or_else(|_| ApiError::timed_out().into_response())
}

/// A panic is a fault of the server, which goes on.
pub(crate) fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let said = panic.downcast_ref::<&str>().copied();
    let said = said.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    tracing::error!(said, "a request handler panicked");
    ApiError::panicked().into_response()
}

fn time_limit(uri: &Uri) -> Duration {
    let reads_all = uri.path().contains("/projections:");
    if reads_all { LONG_ANSWER_BEGINS } else { ANSWER_BEGINS }
}

/// Whether `host`, as in the header of that name, is this machine to itself.
fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(v6) => v6.split_once(']').map_or("", |(name, _)| name),
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_names_are_hosts() {
        for host in ["localhost", "LOCALHOST:1", "127.0.0.1", "127.9.9.9:80", "[::1]", "[::1]:80"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "",
            "evil.test",
            "localhost.evil.test",
            "127.0.0.1.evil.test:80",
            "10.0.0.1",
            "[::2]",
            "::1",
            "[::1",
            "0.0.0.0",
            "evil.test:127.0.0.1",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
