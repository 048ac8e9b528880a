//! Who is let in: only programs on this machine that present the access token.

use std::os::unix::fs::PermissionsExt as _;

use reqwest::Method;
use stella_api::auth::{AccessToken, TokenFileError};

use crate::support::{Answer, Api, PREFIX};

#[tokio::test(flavor = "multi_thread")]
async fn all_but_the_probes_need_the_access_token() {
    let api = Api::start().await;
    for path in ["/livez", "/readyz", "/openapi.json"] {
        assert_eq!(api.bare(Method::GET, path).send().await.unwrap().status(), 200, "{path}");
    }
    let wrong = "Bearer ".to_owned() + &"0".repeat(64);
    let bearer = api.bearer();
    let token = bearer.strip_prefix("Bearer ").unwrap();
    let (short, basic) = (bearer[..bearer.len() - 2].to_owned(), format!("Basic {token}"));
    for path in ["/metrics".to_owned(), format!("{PREFIX}/runs"), format!("{PREFIX}/admin/health")]
    {
        for header in [None, Some(""), Some("Bearer"), Some(&*wrong), Some(&*short), Some(&*basic)]
        {
            let mut request = api.bare(Method::GET, &path);
            if let Some(header) = header {
                request = request.header("authorization", header);
            }
            let answer = Answer::of(request.send().await.unwrap()).await;
            answer.is_problem(401, "UNAUTHORIZED");
            assert!(answer.header("www-authenticate").starts_with("Bearer"), "{answer:?}");
        }
        let request =
            api.bare(Method::GET, &path).header("authorization", format!("bearer {token}"));
        assert_eq!(request.send().await.unwrap().status(), 200, "{path}");
    }
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn web_pages_are_kept_out() {
    let api = Api::start().await;
    for path in ["/livez", "/openapi.json", "/api/v1/orchestrator/runs"] {
        let rebound = api.bare(Method::GET, path).header("host", "evil.test");
        Answer::of(rebound.send().await.unwrap()).await.is_problem(421, "UNKNOWN_HOST");
        for origin in ["https://evil.test", "http://localhost", "null"] {
            let request = api.bare(Method::GET, path).header("origin", origin);
            Answer::of(request.send().await.unwrap()).await.is_problem(403, "ORIGIN_REFUSED");
        }
    }
    let port = api.address().port();
    let local = api.bare(Method::GET, "/livez").header("host", format!("localhost:{port}"));
    assert_eq!(local.send().await.unwrap().status(), 200);
    api.stop().await;
}

#[tokio::test]
async fn only_loopback_is_served() {
    let listener = tokio::net::TcpListener::bind("0.0.0.0:0").await.unwrap();
    let refused = stella_api::serve(listener, axum::Router::new(), async {}).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied);
    assert!(refused.to_string().contains("loopback"), "{refused}");
}

#[test]
fn the_token_file_is_private_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    let first = AccessToken::create_file(&path).unwrap();
    assert_eq!(first.to_hex().len(), 64);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(AccessToken::create_file(&path).unwrap().to_hex(), first.to_hex());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "something is left behind");
    assert!(!format!("{first:?}").contains(&first.to_hex()), "Debug shows the token");
}

#[test]
fn an_unfit_token_file_is_reported_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    AccessToken::create_file(&path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let refused = AccessToken::create_file(&path).unwrap_err();
    assert!(matches!(refused, TokenFileError::Unfit { reason: "can be read by others", .. }));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    for text in ["", "abc", &"z".repeat(64), &"0".repeat(62)] {
        std::fs::write(&path, text).unwrap();
        let refused = AccessToken::create_file(&path).unwrap_err();
        assert!(refused.to_string().contains("remove it"), "{refused}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    }
}
